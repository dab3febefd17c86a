"""metrics.csv: the rows of metrics.jsonl for spreadsheets, an empty cell where a figure is None.

When a run goes on, the file is written anew from the rows that metrics.jsonl keeps, so the two
never differ, whatever a kill left of either.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any

from saetools.train.sink import SINKS, MetricSink, Row, SinkContext, replace_text

__all__ = ["FILE_NAME", "CommaSeparated"]

FILE_NAME = "metrics.csv"


@SINKS.register("csv")
class CommaSeparated(MetricSink):
    """Appends rows to metrics.csv; the header is the names of the first row's figures."""

    def __init__(self, context: SinkContext) -> None:
        self._path = context.folder / FILE_NAME
        rows = context.rows
        self._columns = list(rows[0]) if rows else None
        replace_text(self._path, self._text(rows, header=True) if rows else "")

    def write(self, row: Row) -> None:
        """Append a row; it is in the file when this returns."""
        first = self._columns is None
        if self._columns is None:
            self._columns = list(row)
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._text([row], header=first))

    def close(self) -> None:
        """Nothing is open between rows."""

    def _text(self, rows: Sequence[Row], *, header: bool) -> str:
        out = io.StringIO()
        writer: csv.DictWriter[Any] = csv.DictWriter(
            out, self._columns or [], extrasaction="ignore", lineterminator="\n"
        )
        if header:
            writer.writeheader()
        writer.writerows(dict(row) for row in rows)
        return out.getvalue()
