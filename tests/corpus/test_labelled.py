"""Labelled texts: every spelling of a file, a corpus, and one clear error for what is neither."""

import gzip
import json
from pathlib import Path

import pytest

from saetools.corpus import Corpus, Document, LabelledTexts, load_labelled
from saetools.errors import ConfigError, FormatError, UnknownNameError


def _write(path: Path, *rows: object) -> Path:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("field", ["label", "labels", "concepts", "topic"])
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_one_concept_several_and_none_are_read(tmp_path: Path, field: str, suffix: str) -> None:
    path = _write(
        tmp_path / f"pets{suffix}",
        {"text": "a dog", field: "dog"},
        {"text": "a dog and a cat", field: ["dog", "cat"]},
        "",
        {"text": "  ", field: "cat"},
        {"text": "a stone", field: []},
        {"text": "no word", field: None},
    )
    found = load_labelled(path, field="topic" if field == "topic" else None)
    assert found.texts == ("a dog", "a dog and a cat", "a stone", "no word")
    assert found.labels == (frozenset({"dog"}), frozenset({"dog", "cat"}), frozenset(), frozenset())
    assert (found.name, found.counts) == ("pets", {"dog": 2, "cat": 1})
    assert found.has("dog").tolist() == [True, True, False, False]


def test_the_documents_of_a_corpus_have_their_label_as_concept() -> None:
    corpus = Corpus((Document("x", "one"), Document("y"), Document("", token_ids=(1, 2))), "c")
    found = LabelledTexts.of_corpus(corpus)
    assert found.texts == ("x", "y", (1, 2))
    assert found.labels == (frozenset({"one"}), frozenset(), frozenset())


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        (["{"], FormatError, "line 1: a file of labelled texts has one JSON object a line"),
        (["[1]"], FormatError, "line 1: expected a JSON object, found list"),
        ([{"text": "x", "genre": "a"}], ConfigError, "fields found: text, genre; name the one"),
        (
            [{"text": "x", "label": "a"}, {"text": "y"}],
            ConfigError,
            "line 2: no field 'label'; fields found: text",
        ),
        ([{"label": "a"}], FormatError, "`text` must be a text, found None"),
        ([{"text": 3, "label": "a"}], FormatError, "`text` must be a text, found 3"),
        (
            [{"text": "x", "label": {"a": 1}}],
            FormatError,
            "must be a name or a list of names, found {'a': 1}",
        ),
        ([{"text": "x", "labels": []}], FormatError, "1 texts, and none has a concept"),
        ([], FormatError, "0 texts, and none has a concept"),
    ],
)
def test_a_bad_file_says_where_and_what_to_do(
    tmp_path: Path, rows: list[object], error: type[Exception], words: str
) -> None:
    path = _write(tmp_path / "bad.jsonl", *rows)
    with pytest.raises(error, match=r"bad\.jsonl") as raised:
        load_labelled(path)
    assert words in str(raised.value)


def test_a_missing_file_and_an_unknown_concept_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*none\.jsonl"):
        load_labelled(tmp_path / "none.jsonl")
    texts = LabelledTexts(("a", "b"), (frozenset({"dog"}), frozenset()), "pets")
    with pytest.raises(UnknownNameError, match="no text of 'pets' has the concept 'dgo'; nearest"):
        texts.has("dgo")
    with pytest.raises(ConfigError, match="1 texts and 0 sets"):
        LabelledTexts(("a",), (), "pets")


def test_real_files_are_read_whole(shared_dir: Path) -> None:
    folder = shared_dir / "labelled"
    sizes = {"goemotions_dev": (5426, 28), "gum_genre": (1007, 6), "subjectivity": (10000, 2),
             "tinystories_concepts": (7505, 12), "coco_concepts": (5257, 10)}  # fmt: skip
    for name, (n_texts, n_concepts) in sizes.items():
        found = load_labelled(folder / f"{name}.jsonl.gz")
        assert (len(found), len(found.counts)) == (n_texts, n_concepts), name
