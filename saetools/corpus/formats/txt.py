"""Plain text: a document is a paragraph, a line, or the file."""

from collections.abc import Iterator
from pathlib import Path

from saetools.corpus.base import Document
from saetools.corpus.formats.lines import text_lines
from saetools.corpus.formats.settings import FilesConfig

__all__ = ["read_txt"]


def read_txt(file: Path, config: FilesConfig) -> Iterator[Document]:
    """Yield the documents of a .txt, titled by file and first line."""
    for number, text in _pieces(text_lines(file, errors=config.errors), config.split):
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
