"""The report of a concept ablation: what probes read before and after, and what that means."""

import html
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from saetools.errors import FormatError, UnknownNameError
from saetools.evaluate.ablation.choose import ChosenLatent
from saetools.repro import read_json, write_json

__all__ = ["ConceptAblationReport", "Condition", "Place", "ProbeRow"]

_FORMAT = "saetools-concept-ablation/1"

Condition = Literal["clean", "ablated", "control"]
Place = Literal["hook", "final"]


@dataclass(frozen=True)
class ProbeRow:
    """One figure of the experiment, measured on held-out documents.

    Args:
        condition: "clean", "ablated" (the concept's latents off) or "control" (as many others off).
        place: "hook": mean activation at the SAE's hook; "final": the model's embedding.
        metric: `auroc`, `balanced_accuracy` (fresh probe, concept against the rest), `auroc_drop`
            (clean minus this condition, paired), `transfer_auroc`, `transfer_balanced_accuracy`
            (the clean condition's probe), `other_labels_accuracy` (fresh multi-class probe on the
            other labels), `cosine_concept`, `cosine_other` (mean cosine to the clean vector).
        value: on the held-out documents.
        low: lower end of the 95 % bootstrap interval over documents.
        high: its upper end.
    """

    condition: Condition
    place: Place
    metric: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:z.2f} ({self.low:z.2f}-{self.high:z.2f})"


@dataclass(frozen=True)
class ConceptAblationReport:
    """What `concept_ablation` found.

    Args:
        concept: label of the corpus.
        verdict: what the figures say, in words; computed from them and their intervals.
        rows: the figures.
        latents: the concept's latents, best first, then their controls.
        about: hook, model, corpus, numbers of documents, settings.
    """

    concept: str
    verdict: str
    rows: tuple[ProbeRow, ...]
    latents: tuple[ChosenLatent, ...]
    about: dict[str, Any] = field(default_factory=dict)

    def row(self, condition: Condition, place: Place, metric: str) -> ProbeRow:
        """The one figure of that condition, place and metric.

        Raises:
            UnknownNameError: it was not measured.
        """
        for row in self.rows:
            if (row.condition, row.place, row.metric) == (condition, place, metric):
                return row
        known = sorted({row.metric for row in self.rows})
        raise UnknownNameError(
            f"no figure {metric!r} of {condition!r} at {place!r}; metrics: {', '.join(known)}"
        )

    @property
    def concept_latents(self) -> tuple[int, ...]:
        """Latents that were ablated for the concept, best first."""
        return tuple(row.latent for row in self.latents if row.role == "concept")

    @property
    def control_latents(self) -> tuple[int, ...]:
        """Latents that were ablated for comparison."""
        return tuple(row.latent for row in self.latents if row.role == "control")

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON; NaN becomes null."""
        rows = [
            {key: None if _is_nan(value) else value for key, value in asdict(row).items()}
            for row in self.rows
        ]
        content = {
            "format": _FORMAT,
            "concept": self.concept,
            "verdict": self.verdict,
            "about": self.about,
            "rows": rows,
            "latents": [asdict(latent) for latent in self.latents],
        }
        return write_json(path, content)

    @classmethod
    def load(cls, path: str | Path) -> "ConceptAblationReport":
        """Read a report that `save` wrote.

        Raises:
            FormatError: not such a report, or one of a newer format.
        """
        content = read_json(path, _FORMAT)
        try:
            rows: list[dict[str, Any]] = [
                {key: math.nan if value is None else value for key, value in row.items()}
                for row in content["rows"]
            ]
            return cls(
                concept=content["concept"],
                verdict=content["verdict"],
                rows=tuple(ProbeRow(**row) for row in rows),
                latents=tuple(ChosenLatent(**row) for row in content["latents"]),
                about=dict(content["about"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{path} is a damaged concept ablation: {error!r}") from error

    def table(self) -> Table:
        """The figures as a table for a terminal: one line a place and metric."""
        table = Table(
            title=f"Ablating '{self.concept}'", title_justify="left", caption=self.verdict
        )
        for name in ("place", "metric", "clean", "ablated", "control"):
            table.add_column(name, justify="left" if name in ("place", "metric") else "right")
        for cells in self._cells():
            table.add_row(*cells)
        return table

    def _cells(self) -> list[tuple[str, ...]]:
        by_key = {(row.place, row.metric, row.condition): row for row in self.rows}
        lines = dict.fromkeys((row.place, row.metric) for row in self.rows)
        return [
            (
                place,
                metric,
                *(
                    str(by_key.get((place, metric, condition), ""))
                    for condition in ("clean", "ablated", "control")
                ),
            )
            for place, metric in lines
        ]

    def _repr_html_(self) -> str:
        latents = [
            (str(row.latent), row.role, f"{row.auroc_train:.3f}", f"{row.firing_rate:.2%}")
            for row in self.latents
        ]
        return (
            f"<h4>Ablating {html.escape(self.concept)!r}</h4><p>{html.escape(self.verdict)}</p>"
            + _table_html(("place", "metric", "clean", "ablated", "control"), self._cells())
            + "<details><summary>latents</summary>"
            + _table_html(("latent", "role", "AUROC on train", "fires on"), latents)
            + "</details>"
        )


def _table_html(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(line, 'td') for line in lines)}</table>"


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
