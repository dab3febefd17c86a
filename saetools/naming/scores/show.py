"""Scores in a notebook: a row for each scorer, and each name's score against a random name's."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from saetools.naming.scores.base import Score

__all__ = ["scores_html"]

_SIZE, _MARGIN, _TOP = 220, 34, 22
_MAX_POINTS = 1500


def scores_html(parts: Sequence[tuple[Mapping[str, Any], Sequence[Score]]]) -> str:
    """Figures of each scorer, and a plot: across, a random name's score; up, the name's own.

    Args:
        parts: summary of a scorer, and its scores.
    """
    head = "".join(
        f"<th>{title}</th>"
        for title in ("scorer", "mean", "95 %", "latents", "random name", "swapped", "F1 by rate")
    )
    rows = "".join(_row(summary) for summary, _ in parts)
    plots = "".join(_plot(str(summary["scorer"]), scores) for summary, scores in parts if scores)
    return (
        f"<table><tr>{head}</tr>{rows}</table>"
        f"<div style='display:flex;flex-wrap:wrap'>{plots}</div>"
        "<p>A point is a latent. Above the line its own name scores better than another's.</p>"
    )


def _row(summary: Mapping[str, Any]) -> str:
    left_out = ", ".join(f"{n} {escape(why)}" for why, n in summary["left_out"].items())
    cells = [
        escape(str(summary["scorer"])),
        _spell(summary["mean"]),
        f"{_spell(summary['low'])} to {_spell(summary['high'])}",
        f"{summary['n']:,}" + (f" (not: {left_out})" if left_out else ""),
        _spell(summary["random_name"]),
        _spell(summary["swapped_name"]),
        _spell(summary["weighted_f1"]),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _plot(scorer: str, scores: Sequence[Score]) -> str:
    pairs = [(s.random_name, s.value, s.latent) for s in scores if math.isfinite(s.random_name)]
    step = max(len(pairs) // _MAX_POINTS, 1)
    low = min([0.0, *(min(x, y) for x, y, _ in pairs)])

    def place(v: float) -> float:
        return (v - low) / (1 - low) * _SIZE

    points = "".join(
        f"<circle cx='{_MARGIN + place(x):.1f}' cy='{_SIZE - place(y) + _TOP:.1f}' r='2.5' "
        f"fill='currentColor' fill-opacity='.35'><title>latent {latent}: {y:.2f}, random name "
        f"{x:.2f}</title></circle>"
        for x, y, latent in pairs[::step]
    )
    title = escape(scorer)
    bottom, right = _SIZE + _TOP, _SIZE + _MARGIN
    return (
        f"<svg width='{right + 12}' height='{bottom + 22}' role='img' "
        f"aria-label='{title}: own name against random name'>"
        f"<rect x='{_MARGIN}' y='{_TOP}' width='{_SIZE}' height='{_SIZE}' fill='none' "
        f"stroke='#999'/><line x1='{_MARGIN}' y1='{bottom}' x2='{right}' y2='{_TOP}' "
        f"stroke='#999' stroke-dasharray='4'/>{points}<g font-size='11' fill='currentColor'>"
        f"<text x='{_MARGIN - 4}' y='{_TOP + 8}' text-anchor='end'>1</text>"
        f"<text x='{_MARGIN - 4}' y='{bottom}' text-anchor='end'>{low:.1g}</text>"
        f"<text x='{_MARGIN + _SIZE / 2}' y='{bottom + 16}' text-anchor='middle'>random name</text>"
        f"<text x='{_MARGIN}' y='14'>{title}: own name</text></g></svg>"
    )


def _spell(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"
