"""Text files: each form gives the same documents, and a bad file says what is wrong where."""

import gzip
import json
from pathlib import Path

import pytest

from saetools.corpus import load_corpus
from saetools.errors import ConfigError, FormatError


def _load(path, **settings):
    return load_corpus({"type": "files", "path": str(path), **settings})


def _texts(corpus):
    return [document.text for document in corpus]


_TEXT = "\n\none a\none b\n\n  \ntwo\n\nthree é\n"


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_txt_is_split_by_paragraph_line_or_not_at_all(tmp_path, name):
    data = _TEXT.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert _texts(_load(tmp_path / name)) == ["one a\none b", "two", "three é"]
    assert _texts(_load(tmp_path / name, split="line")) == ["one a", "one b", "two", "three é"]
    assert _texts(_load(tmp_path / name, split="file")) == [_TEXT.strip()]
    assert [d.title for d in _load(tmp_path / name)] == [f"{name}:3", f"{name}:7", f"{name}:9"]


def test_windows_line_ends_and_a_byte_order_mark_leave_no_trace(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\r\n")
    assert _texts(_load(tmp_path / "a.txt")) == ["one", "two"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_jsonl_row_is_a_document(tmp_path, name):
    rows = [{"t": "one", "y": 3}, {"t": "two", "y": None}, {"t": "three", "y": ["pets"]}]
    data = "\n\n".join(json.dumps(row) for row in rows).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    corpus = _load(tmp_path / name, text_field="t", label_field="y")
    assert _texts(corpus) == ["one", "two", "three"]
    assert corpus.labels == ("3", None, "pets")
    assert corpus.name == f"files:{name}"


def test_a_folder_and_a_glob_read_files_in_the_order_of_names(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("bee")
    (tmp_path / "a.jsonl").write_text('{"text": "ay"}\n')
    (tmp_path / "sub" / "c.txt").write_text("cee")
    (tmp_path / "notes.pdf").write_text("no text")
    assert _texts(_load(tmp_path)) == ["ay", "bee", "cee"]
    assert _texts(_load(tmp_path / "**" / "*.txt")) == ["bee", "cee"]


@pytest.mark.parametrize("packed", [False, True])
def test_an_undecodable_byte_is_named_with_file_line_and_offset(tmp_path, packed):
    data = "é one\n".encode() + b"two \xff three\n"
    file = tmp_path / ("a.txt.gz" if packed else "a.txt")
    file.write_bytes(gzip.compress(data) if packed else data)
    at = data.index(b"\xff")
    with pytest.raises(FormatError, match=rf"a\.txt.*line 2, byte {at}.*0xff.*errors: replace"):
        _load(file)
    assert _texts(_load(file, split="line", errors="replace")) == ["é one", "two � three"]


def test_utf16_is_recognised(tmp_path):
    (tmp_path / "a.txt").write_bytes("hello".encode("utf-16"))
    with pytest.raises(FormatError, match="looks like UTF-16"):
        _load(tmp_path / "a.txt")


def test_a_cut_gzip_file_is_refused(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"some text " * 900)[:-20])
    with pytest.raises(FormatError, match="damaged or cut short"):
        _load(tmp_path / "a.txt.gz")


def test_a_missing_field_names_the_fields_found(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "x", "kind": "y"}\n')
    with pytest.raises(ConfigError, match=r"line 1: no field 'text'.*body, kind.*text_field"):
        _load(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match=r"no field 'label'.*body, kind.*label_field"):
        _load(tmp_path / "a.jsonl", text_field="body", label_field="label")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'text': 1}", "line 2.*does not parse"),
        ("[1]", "line 2.*found list"),
        ('{"text": 5, "y": "a"}', "line 2.*holds int.*text, y"),
        ('{"text": "t", "y": ["a", "b"]}', r"line 2.*\['a', 'b'\].*label_field takes one"),
    ],
)
def test_a_bad_row_is_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text('{"text": "fine", "y": "a"}\n' + line)
    with pytest.raises(FormatError, match=message):
        _load(tmp_path / "a.jsonl", label_field="y")


def test_an_absent_file_names_its_neighbours(tmp_path):
    (tmp_path / "stories_train.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"no 'stories_tran\.txt'.*stories_train\.txt"):
        _load(tmp_path / "stories_tran.txt")
    with pytest.raises(ConfigError, match="nor its folder"):
        _load(tmp_path / "no" / "such.txt")


def test_a_place_without_texts_says_what_was_looked_for(tmp_path):
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(ConfigError, match=r"\.txt, \.jsonl, .*none among 1 files"):
        _load(tmp_path)
    with pytest.raises(ConfigError, match="is none of them"):
        _load(tmp_path / "a.pdf")
    (tmp_path / "blank.txt").write_text(" \n\n")
    with pytest.raises(ConfigError, match=r"blank\.txt.*not blank"):
        _load(tmp_path / "blank.txt")


def test_a_cap_is_drawn_from_all_files(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{name}{i}" for i in range(50)))
    corpus = _load(tmp_path, split="line", n_docs=60)
    assert len(corpus) == 60
    assert {text[0] for text in _texts(corpus)} == set("abcd")
    assert corpus.fingerprint == _load(tmp_path, split="line", n_docs=60).fingerprint


def test_the_shared_stories_load(shared_dir):
    corpus = _load(shared_dir / "text" / "tinystories_valid.jsonl")
    assert len(corpus) == 300
    assert corpus[0].text.startswith("Once upon a time")


def test_rows_whose_text_is_blank_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "first"}\n{"text": "  "}\n{"text": "second"}\n')
    corpus = load_corpus({"type": "files", "path": str(path)})
    assert [document.text for document in corpus] == ["first", "second"]
