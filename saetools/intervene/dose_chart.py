"""The picture of a dose response: one panel for the effect, one for each damage, as plain SVG.

Numbers in, text out; it knows nothing of models. Colours follow the viewer's light or dark theme.
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from typing import NamedTuple

__all__ = ["dose_svg"]

Row = tuple[float, float, Mapping[str, float]]
"""Strength, effect, damages by name."""

_WIDTH, _PANEL, _GAP = 640, 120, 34
_LEFT, _RIGHT, _TOP = 64, 16, 30
_STYLE = """
.dose { font: 12px system-ui, sans-serif; --ink: #1f2328; --soft: #656d76; --grid: #d8dee4;
  --effect: #0969da; --damage: #b4520e; --window: #2da44e; background: transparent; }
@media (prefers-color-scheme: dark) { .dose { --ink: #e6edf3; --soft: #9198a1; --grid: #3d444d;
  --effect: #4493f8; --damage: #f0995a; --window: #3fb950; } }
.dose text { fill: var(--ink); } .dose .tick { fill: var(--soft); font-size: 11px; }
.dose .grid { stroke: var(--grid); } .dose .window { fill: var(--window); opacity: .12; }
.dose .chosen { stroke: var(--window); stroke-width: 1.5; }
.dose .limit { stroke: var(--damage); stroke-dasharray: 4 3; }
.dose .line { fill: none; stroke-width: 2; } .dose .effect { stroke: var(--effect); }
.dose .damage { stroke: var(--damage); } .dose circle.effect { fill: var(--effect); }
.dose circle.damage { fill: var(--damage); }
"""


def dose_svg(
    rows: Sequence[Row],
    limits: Mapping[str, float | None],
    *,
    window: tuple[float, float],
    chosen: float | None,
    effect_name: str,
    unit: str,
) -> str:
    """The curves over strengths, in one SVG.

    Args:
        rows: strength, effect and damages of each point, in order of strength.
        limits: of each damage; None where it has none.
        window: the usable strengths, shaded.
        chosen: the strength that is marked.
        effect_name, unit: what the axes say.
    """
    strengths = [row[0] for row in rows]
    panels = [_Panel(effect_name, [row[1] for row in rows], None, "effect")]
    panels += [
        _Panel(name, [row[2][name] for row in rows], limit, "damage")
        for name, limit in limits.items()
    ]
    height = _TOP + len(panels) * (_PANEL + _GAP) + 16
    x = _Scale(strengths, _LEFT, _WIDTH - _RIGHT)
    title = f"{effect_name} and {', '.join(limits)} against strength ({unit})"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="dose" role="img" '
        f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
    ]
    for i, panel in enumerate(panels):
        top = _TOP + i * (_PANEL + _GAP)
        parts += _frame(panel, x, top, window, chosen)
        parts += _curve(panel, strengths, x, top)
    parts += [
        f'<text class="tick" x="{x(s):.1f}" y="{height - 18}" text-anchor="middle">{s:g}</text>'
        for s in strengths
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{height - 3}" text-anchor="middle">strength ({escape(unit)})</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Panel(NamedTuple):
    """One figure over the strengths, and the limit that is drawn into it."""

    name: str
    values: Sequence[float]
    limit: float | None
    kind: str

    def scale(self, top: float) -> "_Scale":
        """Figures to pixels: from 0, or below it, to the largest figure or the limit."""
        bounds = [] if self.limit is None else [self.limit]
        return _Scale([0.0, *self.values, *bounds], top + _PANEL, top)


class _Scale:
    """Maps values onto pixels, evenly."""

    def __init__(self, values: Sequence[float], start: float, stop: float) -> None:
        finite = [v for v in values if isfinite(v)] or [0.0]
        self.low, self.high = min(finite), max(finite)
        self._start, self._stop = start, stop

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self._start + (value - self.low) / span * (self._stop - self._start)


def _frame(
    panel: _Panel, x: _Scale, top: float, window: tuple[float, float], chosen: float | None
) -> list[str]:
    """Heading, bounds, limit, usable window and chosen strength of a panel."""
    y, limit = panel.scale(top), panel.limit
    said = panel.name if limit is None else f"{panel.name} (limit {limit:.3g})"
    wide = x(window[1]) - x(window[0])
    parts = [
        f'<text x="{_LEFT}" y="{top - 8}">{escape(said)}</text>',
        f'<rect class="window" x="{x(window[0]):.1f}" y="{top}" width="{wide:.1f}" '
        f'height="{_PANEL}"/>',
        *(_level("grid", y(value)) for value in (y.low, y.high)),
    ]
    parts += [
        f'<text class="tick" x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">'
        f"{value:.3g}</text>"
        for value in (y.low, y.high)
    ]
    if limit is not None:
        parts.append(_level("limit", y(limit)))
    if chosen is not None:
        at = f'x1="{x(chosen):.1f}" x2="{x(chosen):.1f}"'
        parts.append(f'<line class="chosen" {at} y1="{top}" y2="{top + _PANEL}"/>')
    return parts


def _curve(panel: _Panel, strengths: Sequence[float], x: _Scale, top: float) -> list[str]:
    y = panel.scale(top)
    points = [(x(s), y(v)) for s, v in zip(strengths, panel.values, strict=True) if isfinite(v)]
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    dots = [
        f'<circle class="{panel.kind}" cx="{px:.1f}" cy="{py:.1f}" r="3"/>' for px, py in points
    ]
    return [f'<polyline class="line {panel.kind}" points="{line}"/>', *dots]


def _level(kind: str, y: float) -> str:
    return f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
