"""JSON lines: a document is an object on a line of its own."""

import json
from collections.abc import Iterator
from pathlib import Path

from saetools.corpus.base import Document
from saetools.corpus.formats.lines import text_lines
from saetools.corpus.formats.settings import FilesConfig
from saetools.corpus.rows import document_of
from saetools.errors import FormatError

__all__ = ["read_jsonl"]


def read_jsonl(file: Path, config: FilesConfig) -> Iterator[Document]:
    """Yield a document a line; blank lines are skipped."""
    for number, line in text_lines(file, errors=config.errors):
        if not line.strip():
            continue
        where = f"{file.name}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FormatError(
                f"{where}: a .jsonl file has one JSON object a line; this one does not parse "
                f"({error.msg} at column {error.colno}); repair or remove it"
            ) from error
        if not isinstance(row, dict):
            raise FormatError(
                f"{where}: expected a JSON object, found {type(row).__name__}; a .jsonl file has "
                f"one object a line"
            )
        yield document_of(row, config, where=where, title=f"{file.name}:{number}")
