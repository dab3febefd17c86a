"""Tables as text: .csv with commas and .tsv with tabs, both with names in the first line.

A field may stand in double quotes, inside which a quote is doubled and line ends are text. Nothing
is guessed: other separators, and files without names, have to be converted.
"""

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saetools.corpus.base import Document
from saetools.corpus.formats.lines import text_lines
from saetools.corpus.formats.settings import FilesConfig
from saetools.corpus.rows import document_of
from saetools.errors import FormatError

__all__ = ["read_delimited"]


def read_delimited(file: Path, config: FilesConfig) -> Iterator[Document]:
    """Yield a document a row.

    Raises:
        FormatError: a row has more or fewer cells than the first line, or quotes do not close.
    """
    mark = "\t" if ".tsv" in file.suffixes else ","
    with _any_length():
        lines = (f"{line}\n" for _, line in text_lines(file, errors=config.errors))
        table = csv.reader(lines, delimiter=mark, strict=True)
        names: list[str] | None = None
        start = 1
        for cells in _rows(table, file):
            if cells and names is None:
                names = cells
            elif cells and names is not None:
                where = f"{file.name}, line {start}"
                if len(cells) != len(names):
                    raise FormatError(
                        f"{where}: the first line names {len(names)} columns ("
                        f"{', '.join(names[:8])}) and this row has {len(cells)} cells; quote cells "
                        f"that hold {'tabs' if mark == chr(9) else 'commas'}, or repair the row"
                    )
                row = dict(zip(names, cells, strict=True))
                yield document_of(row, config, where=where, title=f"{file.name}:{start}")
            start = table.line_num + 1


def _rows(table: Iterator[list[str]], file: Path) -> Iterator[list[str]]:
    try:
        yield from table
    except csv.Error as error:
        number = getattr(table, "line_num", 0)
        raise FormatError(
            f"{file.name}, line {number}: cannot be read as a table ({error}); a cell that holds "
            f"a quote stands in quotes itself, with the inner quote doubled; repair the line"
        ) from error


@contextmanager
def _any_length() -> Iterator[None]:
    """Let a cell be longer than the 131,072 characters at which the csv module stops."""
    # A C long, which on Windows is 32 bits wide.
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)
