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
    with pytest.raises(ConfigError, match=r"no field 'text'.*body, kind"):
        load_corpus({**saved, "text_field": "text"})
    with pytest.raises(ConfigError, match=r"no split 'test'.*train"):
        load_corpus({**saved, "split": "test"})


def test_without_network_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"cannot read 'nobody/nothing'.*save_to_disk"):
        load_corpus({"type": "hub", "path": "nobody/nothing"})


@pytest.fixture
def folder_of_parquet(tmp_path):
    datasets.Dataset.from_dict(
        {"body": [f"text {i}" for i in range(300)], "kind": list(range(300))}
    ).to_parquet(str(tmp_path / "rows" / "train.parquet"))
    return {"type": "hub", "path": str(tmp_path / "rows"), "text_field": "body"}


def test_a_stream_gives_as_many_rows_as_asked_in_an_order_of_its_seed(
    folder_of_parquet, monkeypatch
):
    # datasets waits 5 s for its threads at the end of a stream.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1, raising=False)
    streamed = {**folder_of_parquet, "streaming": True, "n_docs": 20, "label_field": "kind"}
    corpus = load_corpus(streamed)
    assert len(corpus) == 20
    assert len(set(corpus.documents)) == 20
    assert {d.text for d in corpus} <= {f"text {i}" for i in range(300)}
    assert all(d.text == f"text {d.label}" for d in corpus)
    assert corpus.fingerprint == load_corpus(streamed).fingerprint
    assert corpus.fingerprint != load_corpus({**streamed, "seed": 1}).fingerprint
    with pytest.raises(ConfigError, match=r"streaming is on and n_docs is not set.*n_docs: 100000"):
        load_corpus({**folder_of_parquet, "streaming": True})


def test_a_saved_data_set_may_hold_token_ids_and_chats(tmp_path):
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = {"input_ids": [[1, 2], [3]], "chat": [chat, chat[:1]]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "made"))
    base = {"type": "hub", "path": str(tmp_path / "made")}
    tokens = load_corpus({**base, "tokens_field": "input_ids", "tokenizer": "mine"})
    assert [d.token_ids for d in tokens] == [(1, 2), (3,)]
    assert tokens.tokenizer == "mine"
    chats = load_corpus({**base, "chat_field": "chat"})
    assert chats[0].text == "user: hi\n\nassistant: hello"
    assert len(chats[1].messages) == 1


def test_the_files_source_points_to_this_one(saved):
    with pytest.raises(ConfigError, match="type: hub"):
        load_corpus({"type": "files", "path": saved["path"]})
