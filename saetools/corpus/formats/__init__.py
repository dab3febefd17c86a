"""Readers of files, one file a format: each turns a path into documents.

To add a format, write its reader beside the others and give it a line in `READERS`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from saetools.corpus.base import Document
from saetools.corpus.formats.delimited import read_delimited
from saetools.corpus.formats.jsonl import read_jsonl
from saetools.corpus.formats.parquet import read_parquet
from saetools.corpus.formats.settings import FilesConfig
from saetools.corpus.formats.txt import read_txt

__all__ = ["READERS", "SUFFIXES", "FilesConfig", "read_file"]

READERS: dict[str, Callable[[Path, FilesConfig], Iterator[Document]]] = {
    ".txt": read_txt,
    ".jsonl": read_jsonl,
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".parquet": read_parquet,
}

# Parquet compresses by itself.
SUFFIXES = (*READERS, *(f"{suffix}.gz" for suffix in READERS if suffix != ".parquet"))


def read_file(file: Path, config: FilesConfig) -> Iterator[Document]:
    """Yield the documents of a file by what its suffix, one of `SUFFIXES`, says it is."""
    return READERS[Path(file.name.removesuffix(".gz")).suffix](file, config)
