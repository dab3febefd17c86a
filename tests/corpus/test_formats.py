"""One table of rows is the same corpus in whatever format it is written."""

import csv
import gzip
import json

import pytest

from saetools.corpus import load_corpus
from saetools.corpus.formats import READERS, SUFFIXES
from saetools.errors import ConfigError, FormatError

ROWS = [
    {"text": "plain", "kind": "a"},
    {"text": 'commas, "quotes" and\ttabs', "kind": "b"},
    {"text": "two\nlines, é東", "kind": "a"},
    {"text": "  ", "kind": "a"},
    {"text": "long " * 40_000, "kind": "c"},
]


def _write(path, rows):
    names = list(rows[0])
    if path.name.endswith(".parquet"):
        arrow = pytest.importorskip("pyarrow", reason="needs pyarrow, which datasets brings")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(rows), path)
        return path
    scratch = path.with_name("scratch")
    with scratch.open("w", encoding="utf-8", newline="") as stream:
        if ".jsonl" in path.suffixes:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(
                stream, names, delimiter="\t" if ".tsv" in path.suffixes else ","
            )
            writer.writeheader()
            writer.writerows(rows)
    data = scratch.read_bytes()
    scratch.unlink()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def _load(path, **settings):
    return load_corpus({"type": "files", "path": str(path), **settings})


ROW_FORMATS = [suffix for suffix in SUFFIXES if ".txt" not in suffix]


@pytest.mark.parametrize("suffix", ROW_FORMATS)
def test_rows_are_the_same_documents_in_every_format(tmp_path, suffix):
    corpus = _load(_write(tmp_path / f"rows{suffix}", ROWS), label_field="kind")
    assert [d.text for d in corpus] == [row["text"] for row in ROWS if row["text"].strip()]
    assert corpus.labels == ("a", "b", "a", "c")
    assert all(d.title.startswith(f"rows{suffix}:") for d in corpus)


def test_a_folder_may_mix_all_formats(tmp_path):
    for i, suffix in enumerate(ROW_FORMATS):
        _write(tmp_path / f"{i}{suffix}", [{"text": f"from {suffix}"}])
    (tmp_path / "z.txt").write_text("from .txt")
    assert [d.text for d in _load(tmp_path)] == [f"from {s}" for s in [*ROW_FORMATS, ".txt"]]
    assert len(_load(tmp_path / "*.parquet")) == 1
    assert set(READERS) == {".txt", ".jsonl", ".csv", ".tsv", ".parquet"}


def test_the_csv_module_keeps_its_own_limit(tmp_path):
    before = csv.field_size_limit()
    _load(_write(tmp_path / "a.csv", ROWS))
    assert csv.field_size_limit() == before


def test_line_numbers_of_a_table_count_lines_and_not_rows(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbftext,kind\r\n"one\r\nmore",x\r\n\r\ntwo,y\r\n')
    corpus = _load(tmp_path / "a.csv")
    assert [(d.text, d.title) for d in corpus] == [("one\nmore", "a.csv:2"), ("two", "a.csv:5")]


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        ("a.csv", b"text,kind\nx,y\nx,y,z\n", FormatError, r"line 3.*2 columns .*3 cells.*quote"),
        ("a.tsv", b"text\tkind\nx\n", FormatError, r"line 2.*2 columns .*1 cells"),
        ("a.csv", b'text\n"never closed\n', FormatError, "cannot be read as a table"),
        ("a.csv", b'text\n"a" b\n', FormatError, "line 2: cannot be read as a table"),
        ("a.csv", b"text\nfine\n\xff\n", FormatError, "line 3, byte 10.*0xff"),
        ("a.csv", b"body,kind\nx,y\n", ConfigError, r"no field 'text'.*body, kind.*text_field"),
        ("a.parquet", b"PAR1 no, it is not", FormatError, r"a\.parquet: cannot be read as Parq"),
    ],
)
def test_a_broken_table_is_named_with_its_line(tmp_path, name, data, error, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=message):
        _load(tmp_path / name)


def test_a_missing_parquet_column_names_all_there_are(tmp_path):
    path = _write(tmp_path / "a.parquet", [{"body": "x", "n": 1}])
    with pytest.raises(ConfigError, match=r"a\.parquet: no field 'text'.*body, n; set text_field"):
        _load(path)
    with pytest.raises(FormatError, match=r"row 0.*'n' holds int"):
        _load(path, text_field="n")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_token_ids_are_read_as_they_are(tmp_path, suffix):
    rows = [
        {"ids": [5, 0, 7], "text": "abc"},
        {"ids": [], "text": "none"},
        {"ids": [1], "text": ""},
    ]
    corpus = _load(
        _write(tmp_path / f"a{suffix}", rows), tokens_field="ids", tokenizer="someone/gpt2"
    )
    assert [d.token_ids for d in corpus] == [(5, 0, 7), (1,)]
    assert [d.content for d in corpus] == [(5, 0, 7), (1,)]
    assert [d.text for d in corpus] == ["abc", ""]
    assert corpus.tokenizer == "someone/gpt2"


def test_token_ids_need_their_tokenizer_said(tmp_path):
    path = _write(tmp_path / "a.jsonl", [{"ids": [1], "text": "a"}])
    with pytest.raises(ConfigError, match="tokens_field is set and tokenizer is not"):
        _load(path, tokens_field="ids")
    with pytest.raises(ConfigError, match="tokenizer is set and tokens_field is not"):
        _load(path, tokenizer="gpt2")
    with pytest.raises(ConfigError, match="both set"):
        _load(path, tokens_field="ids", tokenizer="gpt2", chat_field="text")
    with pytest.raises(FormatError, match=r"line 1: the field 'text' must be a list of whole num"):
        _load(path, tokens_field="text", tokenizer="gpt2")
    with pytest.raises(FormatError, match="set tokens_field: ids and tokenizer"):
        _load(path, text_field="ids")


CHAT = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_chat_is_kept_and_shown_as_text(tmp_path, suffix):
    path = _write(tmp_path / f"a{suffix}", [{"chat": CHAT}, {"chat": []}])
    (one,) = _load(path, chat_field="chat")
    assert one.text == "user: 2+2?\n\nassistant: 4"
    assert [message._asdict() for message in one.messages] == CHAT
    (plain,) = _load(path, chat_field="chat", chat_template="plain")
    assert (plain.text, plain.messages) == (one.text, None)


def test_the_other_spelling_of_a_chat_is_the_same_chat(tmp_path):
    turns = [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]
    one = _load(_write(tmp_path / "a.jsonl", [{"chat": turns}]), chat_field="chat")
    two = _load(_write(tmp_path / "b.jsonl", [{"chat": CHAT}]), chat_field="chat")
    assert one[0].messages == two[0].messages
    with pytest.raises(FormatError, match="set chat_field: chat"):
        _load(tmp_path / "a.jsonl", text_field="chat")


@pytest.mark.parametrize("value", ["no chat", [{"role": "user"}], [{"role": "u", "content": [1]}]])
def test_what_is_no_chat_is_refused(tmp_path, value):
    path = _write(tmp_path / "a.jsonl", [{"chat": value}])
    with pytest.raises(FormatError, match=r"line 1: the field 'chat' must be a list of messages"):
        _load(path, chat_field="chat")
