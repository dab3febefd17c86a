"""The report of an evaluation of unlearning: figures of every model, as JSON and as tables.

It holds plain data only: what was measured, on which models, and what could not be measured.
"""

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from rich.table import Table

from saetools.errors import FormatError, UnknownNameError, nearest
from saetools.evaluate.base import Curve, Direction
from saetools.repro import read_json, write_json

__all__ = ["UnlearningReport", "UnlearningRow"]

_FORMAT = "saetools-unlearning/1"


@dataclass(frozen=True)
class UnlearningRow:
    """One figure of one model.

    Args:
        name: of the figure.
        model: "edited", "original" or "oracle-<i>".
        detail: of which part, e.g. a form or a class of tokens; "" if of all.
        value: what was measured.
        low: lower end of the 95 % bootstrap interval over entities or texts; NaN if exact.
        high: its upper end.
        direction: which values are better.
        meaning: one line for people.
    """

    name: str
    model: str
    detail: str
    value: float
    low: float
    high: float
    direction: Direction
    meaning: str

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.value:.4g}"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class UnlearningReport:
    """What `evaluate_unlearning` found.

    Args:
        rows: the figures, S and its parts first.
        missing: scores that could not be measured, and why.
        curves: relearning by step, probes by layer.
        about: models, numbers of questions and texts, settings.
    """

    rows: tuple[UnlearningRow, ...]
    missing: dict[str, str] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """S; None where a part of it is missing."""
        found = [row.value for row in self.rows if row.name == "score"]
        return found[0] if found else None

    def row(self, name: str, *, model: str = "edited", detail: str | None = None) -> UnlearningRow:
        """The figure of a model; of its details, the one that begins with `detail`.

        Raises:
            UnknownNameError: it was not measured.
        """
        for row in self.rows:
            if (row.name, row.model) == (name, model) and row.detail.startswith(detail or ""):
                return row
        if name in self.missing:
            raise UnknownNameError(f"{name} was not measured: {self.missing[name]}")
        near = ", ".join(nearest(name, {row.name for row in self.rows}))
        raise UnknownNameError(
            f"no figure {name!r} of {model!r} with detail {detail!r}; nearest: {near}"
        )

    def curve(self, name: str) -> Curve | None:
        """The curve of that name, e.g. "relearning edited"; None if it was not drawn."""
        return next((curve for curve in self.curves if curve.name == name), None)

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON; numbers that JSON lacks are written as text."""
        content = {
            "format": _FORMAT,
            "about": self.about,
            "rows": [_spelled(asdict(row)) for row in self.rows],
            "curves": [
                {**asdict(curve), "y": [_spell(y) for y in curve.y]} for curve in self.curves
            ],
            "missing": self.missing,
        }
        return write_json(path, content)

    @classmethod
    def load(cls, path: str | Path) -> "UnlearningReport":
        """Read a report that `save` wrote.

        Raises:
            FormatError: not such a report, or one of a newer format.
        """
        content = read_json(path, _FORMAT)
        try:
            return cls(
                rows=tuple(_row(row) for row in content["rows"]),
                missing=dict(content["missing"]),
                curves=tuple(
                    Curve(c["name"], c["meaning"], tuple(c["x"]), tuple(map(float, c["y"])))
                    for c in content["curves"]
                ),
                about=dict(content["about"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{path} is a damaged unlearning report: {error!r}") from error

    def table(self) -> Table:
        """All figures as a table for a terminal: one line a figure, one column a model."""
        names, lines = self._lines()
        table = Table(title=self._title(), title_justify="left", caption=self._note())
        for name in ("figure", "of", *names, "better"):
            table.add_column(name, justify="right" if name in names else "left")
        for cells in lines:
            table.add_row(*cells)
        return table

    def _repr_html_(self) -> str:
        names, lines = self._lines()
        head = "".join(f"<th>{html.escape(n)}</th>" for n in ("figure", "of", *names, "better"))
        meaning = {row.name: row.meaning for row in self.rows}
        body = "".join(
            f'<tr title="{html.escape(meaning[cells[0]])}">'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            + "</tr>"
            for cells in lines
        )
        return (
            f"<h4>{html.escape(self._title())}</h4><table><tr>{head}</tr>{body}</table>"
            f"<p>{html.escape(self._note())}</p>"
        )

    def _lines(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Names of the models, and the cells of each figure."""
        names = sorted(dict.fromkeys(row.model for row in self.rows), key=_rank)
        by_key = {(row.name, _short(row), row.model): row for row in self.rows}
        keys = dict.fromkeys((row.name, _short(row)) for row in self.rows)
        better = {(row.name, _short(row)): row.direction for row in self.rows}
        return names, [
            (
                name,
                detail,
                *(str(by_key.get((name, detail, model), "")) for model in names),
                "" if better[name, detail] == "none" else better[name, detail],
            )
            for name, detail in keys
        ]

    def _title(self) -> str:
        score = "S not given" if self.score is None else f"S = {self.score:.3f}"
        return f"Unlearning of {self.about.get('edited', 'a model')}: {score}"

    def _note(self) -> str:
        left_out = "; ".join(f"{name}: {why}" for name, why in self.missing.items())
        return f"Not measured: {left_out}" if left_out else ""


def _rank(model: str) -> tuple[int, str]:
    """The edited model first, then the original, then the oracles."""
    return ("edited", "original").index(model) if model in ("edited", "original") else 2, model


def _short(row: UnlearningRow) -> str:
    # Each model has a best layer of its own; the line is one.
    return row.detail.split(", layer")[0]


def _row(row: Mapping[str, Any]) -> UnlearningRow:
    if row["direction"] not in get_args(Direction):
        raise ValueError(f"direction {row['direction']!r}")
    numbers = {key: float(row[key]) for key in ("value", "low", "high")}
    return UnlearningRow(**{**row, **numbers})


def _spelled(row: dict[str, Any]) -> dict[str, Any]:
    return {key: _spell(value) for key, value in row.items()}


def _spell(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
