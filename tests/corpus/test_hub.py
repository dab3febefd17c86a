"""Data sets of `datasets`: read from disk, and refused in plain words without network."""

import pytest

from saetools.corpus import load_corpus
from saetools.errors import ConfigError

datasets = pytest.importorskip("datasets", reason="needs the package datasets")


@pytest.fixture
def saved(tmp_path):
    features = datasets.Features(
        {
            "body": datasets.Value("string"),
            "kind": datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    rows = {"body": [f"text {i}" for i in range(40)] + [" "], "kind": [i % 2 for i in range(41)]}
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "pets"))
    return {"type": "hub", "path": str(tmp_path / "pets"), "text_field": "body"}


def test_a_saved_data_set_gives_its_rows_with_class_names(saved):
    corpus = load_corpus({**saved, "label_field": "kind"})
    assert len(corpus) == 40
    assert corpus[1].text == "text 1"
    assert corpus.label_counts == {"cat": 20, "dog": 20}
    assert corpus.name == "hub:pets"


def test_a_draw_depends_on_its_seed_only(saved):
    first = load_corpus({**saved, "n_docs": 10})
    assert first.fingerprint == load_corpus({**saved, "n_docs": 10}).fingerprint
    assert first.fingerprint != load_corpus({**saved, "n_docs": 10, "seed": 1}).fingerprint


def test_a_wrong_column_or_split_names_those_there_are(saved):
    with pytest.raises(ConfigError, match=r"no column 'text'.*body, kind"):
        load_corpus({**saved, "text_field": "text"})
    with pytest.raises(ConfigError, match=r"no split 'test'.*train"):
        load_corpus({**saved, "split": "test"})


def test_without_network_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"cannot read 'nobody/nothing'.*save_to_disk"):
        load_corpus({"type": "hub", "path": "nobody/nothing"})
