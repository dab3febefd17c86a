"""How a search for a concept shows itself in Jupyter: tables, and distributions as one drawing.

Names come from texts of the corpus, so all text is escaped.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from saetools.evaluate.concept_search.readers import RAW_PROBE, Reader

__all__ = ["distributions_svg", "search_html", "table_html"]

_LATENTS_SHOWN = 15
_BINS = 24
_WIDTH, _HEIGHT, _GAP = 150, 44, 16
_UP, _DOWN = "#d95f02", "#4878a8"


class _Search(Protocol):
    @property
    def concept(self) -> str: ...
    @property
    def pooling(self) -> str: ...
    @property
    def n_held_out(self) -> tuple[int, int]: ...
    @property
    def n_train(self) -> tuple[int, int]: ...
    @property
    def readers(self) -> tuple[Reader, ...]: ...
    @property
    def positive(self) -> npt.NDArray[np.bool_]: ...
    @property
    def shown(self) -> npt.NDArray[np.float64]: ...
    @property
    def names(self) -> Mapping[int, str]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def verdict(self) -> str: ...
    def latents(self) -> list[int]: ...
    def reader(self, name: str) -> Reader: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rank: int) -> Any: ...


def search_html(search: _Search) -> str:
    """Return tables of latents and readers, and the distributions of the first ones."""
    rows = [search[rank] for rank in range(min(_LATENTS_SHOWN, len(search)))]
    n_with, n_without = search.n_held_out
    head = (
        f"<p><b>{escape(search.concept)}</b>: {len(search.latents()):,} of {len(search):,} live "
        f"latents fire more with it (q ≤ 0.05). Chosen on {sum(search.n_train):,} texts; AUROC and "
        f"difference are from {n_with:,} others with the concept and {n_without:,} without it, "
        f"{escape(search.pooling)} over content tokens.</p>"
    )
    panels = [
        (f"latent {row.latent}", search.shown[:, i])
        for i, row in enumerate(rows[: search.shown.shape[1]])
    ]
    panels.append((RAW_PROBE, search.reader(RAW_PROBE).scores))
    notes = "".join(f"<p>Note: {escape(note)}.</p>" for note in search.notes)
    return (
        head
        + table_html(
            ("latent", "name", "AUROC", "95 %", "difference", "q", "fires with", "without"),
            (
                (
                    row.latent,
                    search.names.get(row.latent, ""),
                    f"{row.auroc:.3f}",
                    f"{row.auroc_low:.3f} to {row.auroc_high:.3f}",
                    f"{row.difference:+.2f}",
                    f"{row.q:.2g}",
                    f"{row.fires_positive:.0%}",
                    f"{row.fires_negative:.0%}",
                )
                for row in rows
            ),
        )
        + distributions_svg(panels, search.positive)
        + table_html(
            ("what reads it", "AUROC", "95 %", "balanced accuracy", "95 %"),
            (
                (
                    r.name,
                    f"{r.auroc:.3f}",
                    f"{r.auroc_low:.3f} to {r.auroc_high:.3f}",
                    f"{r.accuracy:.3f}",
                    f"{r.accuracy_low:.3f} to {r.accuracy_high:.3f}",
                )
                for r in search.readers
            ),
        )
        + f"<p>{escape(search.verdict)}</p>{notes}"
    )


def distributions_svg(
    panels: Sequence[tuple[str, npt.NDArray[np.float64]]], positive: npt.NDArray[np.bool_]
) -> str:
    """Draw histograms of texts with the concept (upwards) over those without it (downwards).

    Bars are shares of their class; all bars of a panel have one scale.
    """
    step_x, step_y = _WIDTH + _GAP, 2 * _HEIGHT + 2 * _GAP
    columns = min(4, len(panels))
    drawn = [
        f"<g transform='translate({(i % columns) * step_x},{(i // columns) * step_y + _GAP})'>"
        f"{_panel(title, values, positive)}</g>"
        for i, (title, values) in enumerate(panels)
    ]
    width, height = columns * step_x, -(-len(panels) // columns) * step_y
    return (
        f"<svg viewBox='0 0 {width} {height}' width='{width}' style='max-width:100%' role='img' "
        f"font-family='sans-serif' font-size='10' fill='currentColor'><title>Held-out texts with "
        f"the concept (above the line) and without it (below)</title>{''.join(drawn)}</svg>"
    )


def _panel(title: str, values: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> str:
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    up, down = (
        np.histogram(values[side], edges)[0] / max(int(side.sum()), 1)
        for side in (positive, ~positive)
    )
    most = max(float(up.max()), float(down.max()), 1e-12)
    bar = _WIDTH / _BINS
    bars = "".join(
        f"<rect x='{i * bar:.1f}' y='{_HEIGHT - max(sign, 0) * share / most * _HEIGHT:.1f}' "
        f"width='{bar - 0.5:.1f}' height='{share / most * _HEIGHT:.1f}' fill='{colour}'/>"
        for shares, sign, colour in ((up, 1, _UP), (down, -1, _DOWN))
        for i, share in enumerate(shares)
        if share > 0
    )
    line = f"<line x2='{_WIDTH}' y1='{_HEIGHT}' y2='{_HEIGHT}' stroke='currentColor'/>"
    ends = (
        f"<text y='{2 * _HEIGHT + 10}'>{low:.2g}</text>"
        f"<text x='{_WIDTH}' y='{2 * _HEIGHT + 10}' text-anchor='end'>{high:.2g}</text>"
    )
    return f"<text y='-4'>{escape(title)}</text>{bars}{line}{ends}"


def table_html(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table; all text is escaped."""
    cells = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join(
        "<tr>"
        + "".join(f"<td style='text-align:left'>{escape(str(cell))}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>"
