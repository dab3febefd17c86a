"""metrics.jsonl: a JSON object a row. The record of a run: a resumed run reads its rows here."""

import json
from pathlib import Path
from typing import Any

from saetools.train.sink import SINKS, MetricSink, Row, SinkContext, replace_text

__all__ = ["FILE_NAME", "JsonLines", "read_metrics"]

FILE_NAME = "metrics.jsonl"


@SINKS.register("jsonl")
class JsonLines(MetricSink):
    """Appends rows to metrics.jsonl."""

    def __init__(self, context: SinkContext) -> None:
        self._path = context.folder / FILE_NAME
        replace_text(self._path, "".join(_line(row) for row in context.rows))

    def write(self, row: Row) -> None:
        """Append a row; it is in the file when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(row))

    def close(self) -> None:
        """Nothing is open between rows."""


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl, oldest first; none if there is no such file.

    A last line that was cut short by a kill is left out.
    """
    path = Path(path)
    rows: list[dict[str, Any]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def _line(row: Row) -> str:
    return json.dumps(dict(row), allow_nan=False) + "\n"
