"""How a bottleneck, an explanation, an intervention and a comparison show themselves in Jupyter.

Names and classes come from texts of the corpus, so all text is escaped.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from saetools.evaluate.concept_search.show import table_html

__all__ = ["bottleneck_html", "comparison_html", "explanation_html", "intervention_html"]

_TOP = 5
_UP, _DOWN = "#d95f02", "#4878a8"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 360, 180, 36, 30


def bottleneck_html(bottleneck: Any) -> str:
    """Each class with the latents that speak most for it."""
    weight = bottleneck.head.weight * bottleneck.typical[:, None]
    units = bottleneck.head.units
    rows = []
    for c, name in enumerate(bottleneck.classes):
        best = [i for i in np.argsort(-weight[:, c], kind="stable")[:_TOP] if weight[i, c] > 0]
        told = "; ".join(f"{bottleneck.name(int(units[i]))} ({weight[i, c]:.2f})" for i in best)
        rows.append((name, int((weight[:, c] != 0).sum()), told))
    head = f"<p><b>{escape(repr(bottleneck))}</b>, {escape(bottleneck.pooling)} over tokens</p>"
    return head + table_html(
        ("class", "latents", "speak most for it (weight times deviation)"), rows
    )


def explanation_html(explanation: Any) -> str:
    """Bars of the contributions, those for the class to the right."""
    versus = "" if explanation.against is None else f" rather than {explanation.against}"
    most = max((abs(c.value) for c in explanation.contributions), default=1.0)
    rows = "".join(
        f"<tr><td style='text-align:left'>{escape(c.name)}</td><td>{c.latent}</td>"
        f"<td>{c.activation:.3g}</td><td>{c.weight:+.3g}</td><td>{c.value:+.2f}</td>"
        f"<td style='text-align:left'>{_bar(c.value / most)}</td></tr>"
        for c in explanation.contributions
    )
    return (
        f"<p>predicted <b>{escape(explanation.predicted)}</b> ({explanation.probability:.0%}); "
        f"what speaks for {escape(explanation.of)}{escape(versus)}: score {explanation.logit:.2f} "
        f"= contributions {explanation.rest:+.2f} (others) {explanation.bias:+.2f} (bias)</p>"
        "<table><tr><th>name</th><th>latent</th><th>activation</th><th>weight</th>"
        f"<th>adds</th><th></th></tr>{rows}</table>"
    )


def intervention_html(intervention: Any) -> str:
    """Probabilities before and after."""
    before, after = intervention.predicted
    order = np.argsort(-np.maximum(intervention.before, intervention.after))[:_TOP]
    told = ", ".join(
        f"{latent}: {old:.3g} to {new:.3g}" for latent, (old, new) in intervention.changed.items()
    )
    unused = ", ".join(map(str, intervention.unused))
    return (
        f"<p>{escape(told)}: <b>{escape(before)}</b> before, <b>{escape(after)}</b> after"
        f"{f'; not read by the classifier: {unused}' if unused else ''}</p>"
    ) + table_html(
        ("class", "before", "after"),
        (
            (
                intervention.classes[i],
                f"{intervention.before[i]:.3f}",
                f"{intervention.after[i]:.3f}",
            )
            for i in order
        ),
    )


def comparison_html(comparison: Any) -> str:
    """Scores of both heads, and accuracy by the number of units read."""
    rows = [
        (
            name, score.n_units,
            f"{score.accuracy:.3f}", f"{score.accuracy_low:.3f} to {score.accuracy_high:.3f}",
            f"{score.balanced:.3f}", f"{score.balanced_low:.3f} to {score.balanced_high:.3f}",
        )
        for name, score in (("bottleneck", comparison.latents), ("raw head", comparison.raw))
    ]  # fmt: skip
    head = ("", "units", "accuracy", "95 %", "balanced accuracy", "95 %")
    return (
        f"<p><b>{len(comparison.bottleneck.classes)} classes</b>, {comparison.n_train:,} documents "
        f"to learn from, {comparison.n_held_out:,} held out; the most frequent class alone: "
        f"{comparison.majority:.3f}</p>{table_html(head, rows)}"
        f"<p>{escape(comparison.verdict)}</p>"
        + curve_svg({"latents": comparison.curve, "raw dimensions": comparison.raw_curve})
    )


def curve_svg(curves: Mapping[str, Sequence[Any]]) -> str:
    """Draw held-out accuracy over the number of units that a head reads, with intervals."""
    most = max([score.n_units for scores in curves.values() for score in scores] + [2])

    def place(n: int, accuracy: float) -> tuple[float, float]:
        across = np.log(max(n, 1)) / np.log(most)
        return _LEFT + across * (_WIDTH - _LEFT - 8), 8 + (1 - accuracy) * (_HEIGHT - _BOTTOM - 8)

    drawn = []
    for i, ((name, scores), colour) in enumerate(zip(curves.items(), (_UP, _DOWN), strict=False)):
        kept = [score for score in scores if score.n_units]
        at = [place(s.n_units, s.accuracy) for s in kept]
        ends = [
            (*place(s.n_units, s.accuracy_low), place(s.n_units, s.accuracy_high)[1]) for s in kept
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        drawn.append(f"<polyline points='{line}' fill='none' stroke='{colour}'/>")
        drawn += [f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{a:.1f}' y2='{b:.1f}' stroke='{colour}'/>"
                  for x, a, b in ends]  # fmt: skip
        drawn += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.5' fill='{colour}'/>" for x, y in at]
        drawn.append(
            f"<text x='{_LEFT + 8}' y='{20 + 13 * i}' fill='{colour}'>{escape(name)}</text>"
        )
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' style='max-width:100%' role='img' "
        "font-family='sans-serif' font-size='11' fill='currentColor'>"
        f"<title>Held-out accuracy by the number of units read</title>{_axes(place, most)}"
        f"{''.join(drawn)}</svg>"
    )


def _axes(place: Any, most: int) -> str:
    left, bottom = place(1, 0.0)
    parts = [
        f"<line x1='{left}' x2='{_WIDTH - 8}' y1='{bottom}' y2='{bottom}' stroke='currentColor'/>",
        f"<text x='{(left + _WIDTH) / 2}' y='{_HEIGHT - 2}' text-anchor='middle'>units read</text>",
    ]
    for tick in (0.0, 0.5, 1.0):
        y = place(1, tick)[1]
        parts.append(f"<text x='{left - 4}' y='{y + 4}' text-anchor='end'>{tick:g}</text>")
    tick = 1
    while tick <= most:
        x = place(tick, 0.0)[0]
        parts.append(f"<text x='{x:.1f}' y='{bottom + 12}' text-anchor='middle'>{tick}</text>")
        tick *= 10
    return "".join(parts)


def _bar(share: float) -> str:
    width = abs(share) * 60
    x = 60 - (width if share < 0 else 0)
    return (
        f"<svg width='120' height='10'><rect x='{x:.1f}' width='{width:.1f}' height='10' "
        f"fill='{_UP if share > 0 else _DOWN}'/></svg>"
    )
