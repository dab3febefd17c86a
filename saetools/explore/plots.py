"""Numbers behind the plots; `static/charts.js` draws them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.errors import FormatError
from saetools.evaluate import ConceptAblationReport, EvaluationReport
from saetools.explore.figures import label_of

__all__ = [
    "ablation_chart",
    "firing_histogram",
    "read_training",
    "training_curve",
    "width_curve",
]

_SERIES = {
    "fvu": "Fraction of variance unexplained on training batches. Lower is better.",
    "loss": "Training loss. Lower is better.",
    "l0": "Active latents a token.",
    "dead_fraction": "Share of latents that have not fired for a while. Lower is better.",
    "lr": "Learning rate.",
    "tokens_per_second": "Speed of training in tokens a second.",
}
_PLACES = {"final": "Final vector", "hook": "At the hook"}
_CONDITIONS = {
    "clean": "clean",
    "ablated": "concept ablated",
    "control": "control ablated",
}
_MAX_POINTS = 400
_N_BINS = 36


def read_training(
    source: str | Path | Sequence[Mapping[str, Any]] | None,
) -> list[Mapping[str, Any]]:
    """Rows of a metrics.jsonl (or of the run folder that holds it), or the rows as given.

    Raises:
        FormatError: there is no such file, or a line is not JSON.
    """
    if source is None:
        return []
    if not isinstance(source, str | Path):
        return list(source)
    path = Path(source)
    if path.is_dir():
        path = path / "metrics.jsonl"
    if not path.is_file():
        raise FormatError(
            f"there are no training metrics at {path}; name the metrics.jsonl of a training run, "
            "or leave `training` out"
        )
    rows: list[Mapping[str, Any]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise FormatError(
                    f"line {number} of {path} is not JSON ({error.msg}); the file is cut off or is "
                    "not the metrics.jsonl of a training run"
                ) from error
    return rows


def training_curve(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Each series against tokens, at most 400 points, each the mean of its neighbours."""
    latest = {row["n_tokens"]: row for row in rows}  # a resumed run may repeat steps
    ordered = [latest[n] for n in sorted(latest)]
    if len(ordered) < 2:
        return None
    groups = np.array_split(np.arange(len(ordered)), min(_MAX_POINTS, len(ordered)))
    n_tokens = [ordered[group[-1]]["n_tokens"] for group in groups]
    series = {}
    for name, meaning in _SERIES.items():
        values = np.array([_number(row.get(name)) for row in ordered])
        if np.isfinite(values).sum() > 1:
            means = [_mean(values[group]) for group in groups]
            series[name] = {"label": label_of(name), "meaning": meaning, "values": means}
    return {"n_tokens": n_tokens, "series": series} if series else None


def firing_histogram(rate: npt.NDArray[np.floating[Any]]) -> dict[str, Any] | None:
    """Histogram of log10 firing rates of the latents that fire; None if none does."""
    alive = rate[rate > 0]
    if len(alive) == 0:
        return None
    exponents = np.log10(alive.astype(np.float64))
    low, high = np.floor(exponents.min() * 2) / 2, np.ceil(exponents.max() * 2) / 2
    counts, edges = np.histogram(exponents, bins=_N_BINS, range=(low, max(high, low + 0.5)))
    return {
        "edges": edges.round(4).tolist(),
        "counts": counts.tolist(),
        "n_dead": len(rate) - len(alive),
        "n_latents": len(rate),
    }


def width_curve(report: EvaluationReport | None, n_latents: int) -> list[dict[str, Any]]:
    """FVU at each width of a Matryoshka SAE, narrowest first; empty where it was not measured."""
    if report is None:
        return []
    fvu_at = {
        int(name.removeprefix("fvu_at_")): value
        for name, value in report.values.items()
        if name.startswith("fvu_at_")
    }
    if fvu_at and "fvu" in report.values:
        fvu_at[n_latents] = report.values["fvu"]
    return [{"width": width, "fvu": fvu_at[width]} for width in sorted(fvu_at)]


def ablation_chart(report: ConceptAblationReport) -> dict[str, Any]:
    """AUROC of fresh probes with its interval, by place and condition, and the verdict in words."""
    rows = [
        {
            "group": _PLACES[row.place],
            "label": _CONDITIONS[row.condition],
            "kind": row.condition,
            "value": row.value,
            "low": row.low,
            "high": row.high,
        }
        for place in _PLACES
        for row in report.rows
        if row.metric == "auroc" and row.place == place
    ]
    return {
        "title": f"Ablating “{report.concept}”",
        "note": report.verdict,
        "measure": "AUROC of a fresh probe on held-out documents",
        "chance": 0.5,
        "latents": list(report.concept_latents),
        "rows": rows,
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def _mean(values: Iterable[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(f"{np.mean(finite):.5g}") if finite else None
