"""What a metric is, and the registry of metrics.

A metric is one file in `saetools/evaluate/metrics/`: a class that turns a `MetricContext` into
`Findings`. Every figure it gives says what it means, which way is better and where it can lie.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from saetools.errors import FormatError
from saetools.evaluate.context import MetricContext
from saetools.models.base import ModelKind
from saetools.registry import Registry

__all__ = [
    "METRICS",
    "Curve",
    "Direction",
    "Figure",
    "Findings",
    "Measurement",
    "Metric",
    "Table",
]

Direction = Literal["lower", "higher", "one", "none"]
"""Which values are better: lower, higher, those near 1, or neither."""


@dataclass(frozen=True)
class Figure:
    """What one number is.

    Args:
        name: key in `report.values`.
        meaning: one line for people.
        direction: which values are better.
        range: smallest and largest value it can take; infinite where there is no bound.
    """

    name: str
    meaning: str
    direction: Direction
    range: tuple[float, float]

    def measured(
        self, value: float, *, stderr: float = math.nan, stderr_concepts: float = math.nan
    ) -> "Measurement":
        """This figure with a value, and its standard errors where they are known."""
        return Measurement(self, float(value), float(stderr), float(stderr_concepts))


@dataclass(frozen=True)
class Measurement:
    """A figure, its value, and its standard errors (NaN where they were not estimated).

    Args:
        stderr: how far it moves with other documents.
        stderr_concepts: how far a mean over concepts moves with other concepts.
    """

    figure: Figure
    value: float
    stderr: float = math.nan
    stderr_concepts: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """As plain data; NaN and infinities become null."""
        return {
            "name": self.figure.name,
            "value": _plain(self.value),
            "stderr": _plain(self.stderr),
            "stderr_concepts": _plain(self.stderr_concepts),
            "meaning": self.figure.meaning,
            "direction": self.figure.direction,
            "range": [_plain(bound) for bound in self.figure.range],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Measurement":
        """Inverse of `to_json`."""
        if row["direction"] not in get_args(Direction):
            raise FormatError(
                f"the figure {row['name']!r} has the direction {row['direction']!r}; this version "
                f"of saetools knows {', '.join(get_args(Direction))}"
            )
        low, high = row["range"]
        bounds = (-math.inf if low is None else low, math.inf if high is None else high)
        figure = Figure(row["name"], row["meaning"], row["direction"], bounds)
        return cls(
            figure,
            _number(row["value"]),
            _number(row["stderr"]),
            _number(row.get("stderr_concepts")),  # reports before it existed lack it
        )


@dataclass(frozen=True)
class Curve:
    """Points to plot, e.g. a histogram: bar i goes from x[i] to x[i + 1] and is y[i] high."""

    name: str
    meaning: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers, e.g. one a concept; NaN where there is no number."""

    name: str
    meaning: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As plain data; NaN and infinities become null."""
        rows = [[c if isinstance(c, str) else _plain(c) for c in row] for row in self.rows]
        columns = list(self.columns)
        return {"name": self.name, "meaning": self.meaning, "columns": columns, "rows": rows}

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> "Table":
        """Inverse of `to_json`."""
        rows = tuple(
            tuple(cell if isinstance(cell, str) else _number(cell) for cell in row)
            for row in table["rows"]
        )
        return cls(table["name"], table["meaning"], tuple(table["columns"]), rows)

    def cells(self) -> list[tuple[str, ...]]:
        """Every row as text, numbers with three digits."""
        return [tuple(_spelled(cell) for cell in row) for row in self.rows]


@dataclass(frozen=True)
class Findings:
    """What one metric found.

    Args:
        measurements: its figures; none where it had to give up.
        curves: points to plot.
        tables: rows to read, e.g. one a concept.
        left_out: figures that this SAE does not have, by name, and why.
        skipped: why it gave up, where only trying could show that it cannot be measured here.
    """

    measurements: tuple[Measurement, ...]
    curves: tuple[Curve, ...] = ()
    tables: tuple[Table, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    skipped: str | None = None


class Metric(ABC):
    """A plug-in that measures an SAE.

    Attributes:
        figures: what it gives, apart from figures that depend on the SAE (one a width, say).
        needs: kind of model that it runs, with the corpus; None if the store is enough.
        one_hook: why the SAE has to reconstruct the activation that it reads; None where the metric
            knows what to do with a transcoder, which reconstructs another.
    """

    figures: ClassVar[tuple[Figure, ...]]
    needs: ClassVar[ModelKind | None] = None
    one_hook: ClassVar[str | None] = "it does not say what it would mean of one"

    @abstractmethod
    def compute(self, ctx: MetricContext) -> Findings:
        """Measure; the same context gives the same findings."""

    def missing(self, ctx: MetricContext) -> str | None:
        """Say what the context lacks for this metric, None if it has everything."""
        if self.needs is None:
            return None
        wanted = self.needs.replace("_", " ")
        if ctx.model is None:
            return f"it runs a {wanted} and no model was given; pass model=load_model(...)"
        if ctx.model.kind != self.needs:
            kind = ctx.model.kind.replace("_", " ")
            return f"it runs a {wanted}, and {ctx.model.name} is a {kind}; choose another metric"
        if ctx.texts is None:
            return "it runs the model on the store's documents; pass corpus="
        return None


METRICS: Registry[type[Metric]] = Registry(
    "metric", package="saetools.evaluate.metrics", group="saetools.metrics"
)


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _spelled(cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    if not math.isfinite(cell):
        return ""
    return f"{cell:.0f}" if cell == round(cell) else f"{cell:.3g}"
