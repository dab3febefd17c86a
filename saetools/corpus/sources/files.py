"""Text files: .txt and .jsonl, plain or gzipped; one file, a folder, or a glob."""

import glob
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from saetools.corpus.base import CORPORA, CorpusConfig, Document
from saetools.corpus.sources._text import text_lines
from saetools.corpus.split import sample
from saetools.errors import ConfigError, FormatError, nearest

__all__ = ["Files", "FilesConfig"]

_SUFFIXES = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")


class FilesConfig(CorpusConfig):
    """Which files, and what in them is a document."""

    path: str = Field(
        description="a file, a folder with its sub-folders, or a glob such as data/*.jsonl.gz"
    )
    split: Literal["paragraph", "line", "file"] = Field(
        default="paragraph",
        description="what one document of a .txt is; a paragraph ends at a blank line",
    )
    text_field: str = Field(default="text", description="field of a .jsonl row that holds the text")
    label_field: str | None = Field(
        default=None, description="field of a .jsonl row that holds the label; none by default"
    )
    title_field: str | None = Field(
        default=None,
        description="field of a .jsonl row that holds the title; file and line by default",
    )
    errors: Literal["strict", "replace"] = Field(
        default="strict",
        description="`replace` turns bytes that are no UTF-8 into U+FFFD instead of stopping",
    )
    n_docs: int | None = Field(
        default=None,
        ge=1,
        description="keep this many documents, spread over all files; all by default",
    )

    @property
    def source(self) -> str:
        """Last part of the path."""
        return Path(self.path).name


@CORPORA.register("files")
class Files:
    """Documents of text files, in the order of file names and lines."""

    Config = FilesConfig

    @staticmethod
    def load(config: FilesConfig) -> list[Document]:
        """Read all documents; empty ones are left out."""
        files = _find(config.path)
        read = (document for file in files for document in _read(file, config))
        documents = [document for document in read if document.text.strip()]
        if not documents:
            names = ", ".join(file.name for file in files[:5])
            raise ConfigError(
                f"corpus 'files': {len(files)} files match '{config.path}' ({names}) and none "
                f"holds a text that is not blank; point `path` at other files"
            )
        return sample(documents, config.n_docs)


def _find(asked: str) -> list[Path]:
    path = Path(asked)
    if path.is_file():
        if not path.name.endswith(_SUFFIXES):
            raise ConfigError(
                f"corpus 'files' reads {', '.join(_SUFFIXES)}; '{asked}' is none of them; "
                f"rename or convert it"
            )
        return [path]
    if path.is_dir():
        found = [entry for entry in path.rglob("*") if entry.is_file()]
    elif glob.has_magic(asked):
        found = [Path(name) for name in glob.glob(asked, recursive=True) if Path(name).is_file()]
    else:
        raise ConfigError(_absent(path))
    files = sorted(file for file in found if file.name.endswith(_SUFFIXES))
    if not files:
        raise ConfigError(
            f"corpus 'files' looked for {', '.join(_SUFFIXES)} in '{asked}' and found none "
            f"among {len(found)} files; check the path"
        )
    return files


def _absent(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"corpus 'files': there is no '{path}', nor its folder '{folder}'; check the path"
    near = nearest(path.name, [entry.name for entry in folder.iterdir()])
    found = f"nearest names: {', '.join(near)}" if near else "the folder is empty"
    return f"corpus 'files': there is no '{path.name}' in '{folder}'; {found}"


def _read(file: Path, config: FilesConfig) -> Iterator[Document]:
    lines = text_lines(file, errors=config.errors)
    if file.name.endswith((".jsonl", ".jsonl.gz")):
        for number, line in lines:
            if line.strip():
                yield _from_row(line, config, file, number)
        return
    for number, text in _pieces(lines, config.split):
        title = file.name if config.split == "file" else f"{file.name}:{number}"
        yield Document(text, title=title)


def _pieces(lines: Iterator[tuple[int, str]], split: str) -> Iterator[tuple[int, str]]:
    """Documents of a .txt, each with the number of its first line."""
    held: list[str] = []
    start = 1
    for number, line in lines:
        blank = not line.strip()
        if held and (split == "line" or (split == "paragraph" and blank)):
            yield start, "\n".join(held).strip()
            held = []
        if blank and not (held and split == "file"):
            continue
        if not held:
            start = number
        held.append(line)
    if held:
        yield start, "\n".join(held).strip()


def _from_row(line: str, config: FilesConfig, file: Path, number: int) -> Document:
    where = f"{file.name}, line {number}"
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise FormatError(
            f"{where}: a .jsonl file has one JSON object a line; this one does not parse "
            f"({error.msg} at column {error.colno}); repair or remove it"
        ) from error
    if not isinstance(row, dict):
        raise FormatError(f"{where}: expected a JSON object, found {type(row).__name__}")
    text = _field(row, config.text_field, "text_field", where)
    if not isinstance(text, str):
        raise FormatError(
            f"{where}: the field '{config.text_field}' holds {type(text).__name__}, not a text; "
            f"set text_field to another of: {', '.join(row)}"
        )
    label = _short(row, config.label_field, "label_field", where)
    title = _short(row, config.title_field, "title_field", where)
    return Document(text, label=label, title=title or f"{file.name}:{number}")


def _short(row: dict[str, Any], field: str | None, setting: str, where: str) -> str | None:
    value = None if field is None else _field(row, field, setting, where)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list | dict):
        raise FormatError(
            f"{where}: the field '{field}' holds {value!r}; {setting} takes one text or number a "
            f"document; choose another field or keep one value"
        )
    return str(value)


def _field(row: dict[str, Any], field: str, setting: str, where: str) -> Any:
    if field not in row:
        raise ConfigError(
            f"{where}: no field '{field}'; fields found: {', '.join(row)}; set {setting} to one "
            f"of them"
        )
    return row[field]
