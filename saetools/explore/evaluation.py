"""Evaluation reports as one page: a section for each metric, SAEs side by side."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from saetools.errors import ConfigError
from saetools.evaluate import METRICS, EvaluationReport
from saetools.evaluate.base import Curve, Measurement
from saetools.explore.bundle import Bundle, plain
from saetools.explore.figures import arch_label, label_of
from saetools.explore.page import EVALUATION, HtmlPage, assemble
from saetools.repro import write_json

__all__ = ["EvaluationPage", "left_out", "show_evaluation"]

logger = logging.getLogger(__name__)

_FORMAT = "saetools-evaluations/1"
_AT_WIDTH = re.compile(r"(.+)_at_(\d+)")
_SHARED = ("model", "corpus", "hook_name", "target_hook_name", "split", "n_docs")
_SPLITS = {"held_out": "held-out", "train": "training", "all": "all"}
_OTHERS = "other figures"


@dataclass(frozen=True, repr=False)
class EvaluationPage(HtmlPage):
    """One self-contained HTML page of evaluation reports.

    Args:
        html: the whole page.
        reports: the reports by the name of their SAE.
        notes: what makes the figures less comparable than they look.
        path: where it was written, None if it was not.
    """

    html: str
    reports: Mapping[str, EvaluationReport]
    notes: tuple[str, ...] = ()
    path: Path | None = None

    def save(self, path: str | Path) -> "EvaluationPage":
        """Write the page, and the reports as JSON beside it; returns it with its `path` set."""
        path = self._write(path)
        write_json(path.with_suffix(".json"), self.to_json())
        return replace(self, path=path)

    def to_json(self) -> dict[str, Any]:
        """All reports as plain data, one report as its own file has it."""
        if len(self.reports) == 1:
            return next(iter(self.reports.values())).to_json()
        named = [{"name": name, **report.to_json()} for name, report in self.reports.items()]
        return {"format": _FORMAT, "notes": list(self.notes), "reports": named}

    def _about(self) -> str:
        n = len(self.reports)
        return f"{n} evaluation{'' if n == 1 else 's'}"


def show_evaluation(
    reports: EvaluationReport | Mapping[str, EvaluationReport],
    *,
    title: str = "Evaluation",
    out: str | Path | None = None,
) -> EvaluationPage:
    """Evaluation reports on one self-contained page that loads nothing from the network.

    Args:
        reports: one report, or several by the name of their SAE, shown side by side.
        title: heading of the page.
        out: where to write it, with the reports as JSON beside it; None builds it in memory.

    Raises:
        ConfigError: there is no report.

    >>> show_evaluation({"k16": one, "k32": other}, out="report.html")    # doctest: +SKIP
    """
    if isinstance(reports, EvaluationReport):
        reports = {_own_name(reports): reports}
    if not reports:
        raise ConfigError("there is no evaluation report to show; give at least one")
    notes = tuple(_notes(reports))
    head = {
        "title": title,
        "facts": _facts(reports),
        "notes": notes,
        "saes": [{"name": name, **_settings(report)} for name, report in reports.items()],
        "sections": _sections(reports),
        "skipped": [
            {"metric": label_of(metric), "why": why} for metric, why in left_out(reports).items()
        ],
    }
    html = assemble(Bundle(plain(head), {}), title=title, assets=EVALUATION)
    page = EvaluationPage(html, dict(reports), notes)
    if out is None:
        return page
    page = page.save(out)
    logger.info("wrote %s; open it in a browser", page.path)
    return page


def _own_name(report: EvaluationReport) -> str:
    kind = report.about.get("sae", {}).get("type")
    return "SAE" if kind is None else arch_label(str(kind))


def _settings(report: EvaluationReport) -> dict[str, Any]:
    sae = report.about.get("sae", {})
    return {
        "architecture": arch_label(str(sae.get("type", "SAE"))),
        "n_latents": sae.get("n_latents"),
        "k": sae.get("k", sae.get("target_l0")),
    }


def _facts(reports: Mapping[str, EvaluationReport]) -> list[tuple[str, str]]:
    """What all reports have in common, as pairs of a heading and a value."""
    abouts = [report.about for report in reports.values()]
    same = {
        name: abouts[0][name]
        for name in _SHARED
        if abouts[0].get(name) is not None
        and all(about.get(name) == abouts[0][name] for about in abouts)
    }
    pairs = [
        ("Model", same.get("model")),
        ("Corpus", same.get("corpus")),
        ("Hook", same.get("hook_name")),
        ("Writes", same.get("target_hook_name")),
    ]
    if "n_docs" in same and "split" in same:
        split = _SPLITS.get(same["split"], same["split"])
        pairs.append(("Measured on", f"{same['n_docs']:,} {split} documents"))
    return [(heading, str(value)) for heading, value in pairs if value is not None]


def _notes(reports: Mapping[str, EvaluationReport]) -> list[str]:
    heard = {tuple(str(report.about.get(name)) for name in _SHARED) for report in reports.values()}
    if len(heard) < 2:
        return []
    return [
        "These SAEs were measured on different activations (another model, corpus, hook or split), "
        "so their figures measure different things."
    ]


def left_out(reports: Mapping[str, EvaluationReport]) -> dict[str, str]:
    """Why each metric is missing from some report; of several reports, which ones lack it."""
    lacking: dict[str, dict[str, list[str]]] = {}
    for name, report in reports.items():
        for metric, why in report.skipped.items():
            lacking.setdefault(metric, {}).setdefault(why, []).append(name)
    return {
        metric: "; ".join(
            why if len(names) == len(reports) else f"in {', '.join(names)}: {why}"
            for why, names in reasons.items()
        )
        for metric, reasons in lacking.items()
    }


def _sections(reports: Mapping[str, EvaluationReport]) -> list[dict[str, Any]]:
    metrics = dict.fromkeys(metric for report in reports.values() for metric in report.figures_of)
    named = {name for report in reports.values() for f in report.figures_of.values() for name in f}
    sections = [
        _section(metric, [*_names(reports, metric)], reports, curves=True) for metric in metrics
    ]
    loose = dict.fromkeys(name for report in reports.values() for name in report.values)
    left = [name for name in loose if name not in named]
    if left:
        sections.append(_section(_OTHERS, left, reports, curves=False))
    return [section for section in sections if section["figures"] or section["curves"]]


def _names(reports: Mapping[str, EvaluationReport], metric: str) -> dict[str, None]:
    names = (report.figures_of.get(metric, ()) for report in reports.values())
    return dict.fromkeys(name for some in names for name in some)


def _section(
    metric: str, names: Sequence[str], reports: Mapping[str, EvaluationReport], *, curves: bool
) -> dict[str, Any]:
    found = [{row.figure.name: row for row in report.rows} for report in reports.values()]
    rows = [_figure(name, [by_name.get(name) for by_name in found]) for name in names]
    by_width = [row for row in rows if _AT_WIDTH.fullmatch(row["name"])]
    drawn = dict.fromkeys(
        curve.name
        for report in reports.values()
        for curve in report.curves
        if curves and curve.name in report.curves_of.get(metric, ())
    )
    return {
        "name": metric,
        "label": label_of(metric),
        "meaning": _meaning(metric),
        "figures": [row for row in rows if row not in by_width],
        "by_width": [*_width_curves(rows, reports)],
        "curves": [_curve(name, reports) for name in drawn],
        "tables": [
            {**table.to_json(), "label": label_of(table.name), "sae": name}
            for name, report in reports.items()
            for table in report.tables
            if table.name in report.tables_of.get(metric, ())
        ],
    }


def _figure(name: str, rows: Sequence[Measurement | None]) -> dict[str, Any]:
    figure = next(row.figure for row in rows if row is not None)
    return {
        "name": name,
        "label": label_of(name),
        "meaning": figure.meaning[:1].upper() + figure.meaning[1:],
        "direction": figure.direction,
        "range": figure.range,
        "values": [None if row is None else row.value for row in rows],
        "stderrs": [None if row is None else row.stderr for row in rows],
    }


def _width_curves(
    rows: Sequence[Mapping[str, Any]], reports: Mapping[str, EvaluationReport]
) -> list[dict[str, Any]]:
    """Figures at each width of Matryoshka SAEs as lines, the whole dictionary last."""
    wholes = [report.about.get("sae", {}).get("n_latents") for report in reports.values()]
    by_name = {row["name"]: row for row in rows}
    points: dict[str, dict[int, Sequence[float | None]]] = {}
    for row in rows:
        if found := _AT_WIDTH.fullmatch(row["name"]):
            points.setdefault(found[1], {})[int(found[2])] = row["values"]
    curves = []
    for base, at in points.items():
        series = []
        for i, whole in enumerate(wholes):
            own = {width: values[i] for width, values in sorted(at.items())}
            if base in by_name and whole is not None:
                own[int(whole)] = by_name[base]["values"][i]
            known = {width: value for width, value in own.items() if value is not None}
            if len(known) > 1:
                series.append({"sae": i, "x": list(known), "y": list(known.values())})
        curves.append(
            {
                "name": f"{base}_by_width",
                "label": f"{label_of(base)} by width",
                "meaning": "With the first latents alone, as many as the horizontal axis says.",
                "x_title": "latents",
                "steps": False,
                "series": series,
            }
        )
    return [curve for curve in curves if curve["series"]]


def _curve(name: str, reports: Mapping[str, EvaluationReport]) -> dict[str, Any]:
    found = [report.curve(name) for report in reports.values()]
    first = next(curve for curve in found if curve is not None)
    return {
        "name": name,
        "label": label_of(name),
        "meaning": first.meaning[:1].upper() + first.meaning[1:] + ".",
        "x_title": name.replace("_", " "),
        "steps": _is_histogram(first),
        "series": [
            {"sae": i, "x": curve.x, "y": curve.y}
            for i, curve in enumerate(found)
            if curve is not None and len(curve.y) > 1
        ],
    }


def _is_histogram(curve: Curve) -> bool:
    return len(curve.x) == len(curve.y) + 1 and all(a < b for a, b in pairwise(curve.x))


def _meaning(metric: str) -> str:
    """The first line of what the metric says of itself; "" for one that is not installed here."""
    if metric not in METRICS.names():
        return ""
    return (METRICS.get(metric).__doc__ or "").strip().split("\n")[0]
