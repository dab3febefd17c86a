"""The report of an evaluation: figures with their meaning, saved as JSON, shown as a table."""

import html
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from saetools.errors import FormatError
from saetools.evaluate.base import Curve, Measurement, Table
from saetools.repro import read_json, write_json

__all__ = ["EvaluationReport"]

_FORMAT = "saetools-evaluation/1"
_BETTER = {"lower": "lower", "higher": "higher", "one": "near 1", "none": ""}


@dataclass(frozen=True)
class EvaluationReport:
    """What `evaluate` found.

    Args:
        rows: the figures, in the order of the metrics.
        curves: points to plot.
        tables: details, e.g. a row a concept.
        skipped: metrics that could not run, and figures that the SAE does not have, and why.
        about: SAE, store, split and seed that the figures belong to.
    """

    rows: tuple[Measurement, ...]
    curves: tuple[Curve, ...] = ()
    tables: tuple[Table, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """Each figure's value by name."""
        return {row.figure.name: row.value for row in self.rows}

    @property
    def stderr(self) -> dict[str, float]:
        """Standard errors over documents by name, where they were estimated."""
        return {row.figure.name: row.stderr for row in self.rows if not math.isnan(row.stderr)}

    def curve(self, name: str) -> Curve | None:
        """The curve of that name, None if no metric drew it."""
        return next((curve for curve in self.curves if curve.name == name), None)

    @property
    def figures_of(self) -> dict[str, tuple[str, ...]]:
        """Names of the figures of each metric that ran, in its order."""
        return {name: tuple(own) for name, own in self.about.get("figures", {}).items()}

    @property
    def curves_of(self) -> dict[str, tuple[str, ...]]:
        """Names of the curves of each metric that ran, in its order."""
        return {name: tuple(own) for name, own in self.about.get("curves", {}).items()}

    def details(self, name: str) -> Table | None:
        """The table of that name, None if no metric made it."""
        return next((table for table in self.tables if table.name == name), None)

    @property
    def tables_of(self) -> dict[str, tuple[str, ...]]:
        """Names of the tables of each metric that ran, in its order."""
        return {name: tuple(own) for name, own in self.about.get("tables", {}).items()}

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, as `docs/schemas/evaluation-1.json` describes it."""
        return {
            "format": _FORMAT,
            "about": self.about,
            "rows": [row.to_json() for row in self.rows],
            "curves": [asdict(curve) for curve in self.curves],
            "tables": [table.to_json() for table in self.tables],
            "skipped": self.skipped,
        }

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON."""
        return write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "EvaluationReport":
        """Read a report that `save` wrote.

        Raises:
            FormatError: not a report, or one of a newer format.
        """
        content = read_json(path, _FORMAT)
        try:
            return cls(
                rows=tuple(Measurement.from_json(row) for row in content["rows"]),
                curves=tuple(
                    Curve(c["name"], c["meaning"], tuple(c["x"]), tuple(c["y"]))
                    for c in content["curves"]
                ),
                # Reports of the first versions have none.
                tables=tuple(Table.from_json(table) for table in content.get("tables", ())),
                skipped=dict(content["skipped"]),
                about=dict(content["about"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path} is a damaged evaluation report: {error!r}") from error

    def table(self) -> RichTable:
        """The figures as a table for a terminal."""
        table = RichTable(title=self._title(), title_justify="left")
        table.add_column("figure")
        table.add_column("value", justify="right")
        table.add_column("± s.e.", justify="right")
        table.add_column("better")
        table.add_column("meaning")
        for cells in self._cells():
            table.add_row(*cells)
        return table

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("figure", "value", "± s.e.", "better", ""))
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
            for cells in self._cells()
        )
        notes = "".join(
            f"<p>{html.escape(name)} was left out: {html.escape(why)}</p>"
            for name, why in self.skipped.items()
        )
        caption = html.escape(self._title())
        details = "".join(map(_folded, self.tables))
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>{details}{notes}"

    def _title(self) -> str:
        about = self.about
        if not about:
            return "Evaluation"
        target = about.get("target_hook_name")
        to = "" if target is None else f" to {target}"
        return (
            f"{about['sae']['type']}, {about['sae']['n_latents']:,} latents at {about['hook_name']}"
            f"{to} on {about['n_docs']:,} documents ({about['split']})"
        )

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.figure.name,
                f"{row.value:.4g}",
                "" if math.isnan(row.stderr) else f"{row.stderr:.2g}",
                _BETTER[row.figure.direction],
                row.figure.meaning,
            )
            for row in self.rows
        ]


def _folded(table: Table) -> str:
    """A table that opens on a click."""

    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = row(table.columns, "th") + "".join(row(cells, "td") for cells in table.cells())
    title = html.escape(f"{table.name}: {table.meaning}")
    return f"<details><summary>{title}</summary><table>{body}</table></details>"
