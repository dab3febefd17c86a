"""Which documents to show of each latent, and the tokens around its strongest one.

Three kinds, never mixed: the best training documents, training documents drawn evenly over the
rest, and held-out documents drawn evenly. Namers look at the first two; names are scored on the
third.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64, UInt8

from saetools.analysis.auroc import Pooled
from saetools.analysis.codes import Entries
from saetools.analysis.order import places, strongest_first

__all__ = ["HELD_OUT", "SPREAD", "TOP", "ContextTable", "choose", "windows"]

TOP, SPREAD, HELD_OUT = 0, 1, 2

Ints = npt.NDArray[np.int64]
_PART = 20_000  # windows looked up at once


@dataclass(frozen=True)
class ContextTable:
    """Windows of tokens around peaks, sorted by latent, kind, and activation, strongest first.

    Args:
        latent, kind, doc: of each window.
        peak: place of the peak in the window.
        token: index into the readable tokens, -1 beyond the document.
        act: the latent's activation on each token.
    """

    latent: Int64[np.ndarray, " c"]
    kind: UInt8[np.ndarray, " c"]
    doc: Int32[np.ndarray, " c"]
    peak: Int32[np.ndarray, " c"]
    token: Int32[np.ndarray, "c w"]
    act: Float32[np.ndarray, "c w"]


def choose(
    pooled: Pooled, *, n_top: int, n_spread: int, n_latents: int, seed: int, first: int = 0
) -> tuple[Pooled, npt.NDArray[np.bool_]]:
    """Choose documents of each latent: its `n_top` best, and `n_spread` drawn over the rest.

    The rest is cut into `n_spread` runs of equal length by strength; one is drawn from each run.

    Args:
        pooled: pairs of the documents to choose from, latents counted from 0, sorted by latent
            and document.
        n_top: best documents; of equal maxima the earlier row comes first.
        n_spread: documents drawn.
        n_latents: number of latents in `pooled`.
        seed: of the draw.
        first: number of latent 0 in the whole dictionary, so that parts do not change the draw.

    Returns:
        The chosen pairs sorted by latent and strength, and which of them are among the best.
    """
    ordered = pooled.take(strongest_first(pooled.latent, pooled.value))
    fires = np.bincount(ordered.latent, minlength=n_latents)
    starts = np.cumsum(fires) - fires
    place = places(ordered.latent)
    best = place < n_top
    drawn = np.zeros(len(place), dtype=bool)
    rest = np.maximum(fires - n_top, 0)
    n_runs = np.minimum(rest, n_spread)
    for run in range(n_spread):
        alive = np.flatnonzero(run < n_runs)
        lo = -(-run * rest[alive] // n_runs[alive])
        hi = -(-(run + 1) * rest[alive] // n_runs[alive])
        chance = np.random.default_rng((seed, run)).random(first + n_latents)[first + alive]
        drawn[starts[alive] + n_top + lo + (chance * (hi - lo)).astype(np.int64)] = True
    kept = best | drawn
    return ordered.take(kept), best[kept]


def windows(
    chosen: Pooled,
    kind: npt.NDArray[np.uint8],
    *,
    entries: Entries,
    window: int,
    doc_spans: Ints,
    token: npt.NDArray[np.int32],
) -> ContextTable:
    """Cut `window` tokens on each side of every peak, never across a document's border.

    Args:
        chosen: the peaks, with the latents' numbers in the whole dictionary.
        kind: TOP, SPREAD or HELD_OUT of each.
        entries: activations of these latents.
        window: tokens on each side.
        doc_spans: first and last + 1 row of each document, shape (n_docs, 2).
        token: readable token of each row.
    """
    span = doc_spans[chosen.doc]
    start = np.maximum(chosen.row - window, span[:, 0])
    rows = start[:, None] + np.arange(2 * window + 1)
    stop = np.minimum(chosen.row + window + 1, span[:, 1])
    rows = np.where(rows < stop[:, None], rows, -1)
    act = np.zeros(rows.shape, dtype=np.float32)
    for at in range(0, len(rows), _PART):
        part = slice(at, at + _PART)
        act[part] = entries.at(rows[part], chosen.latent[part])
    return ContextTable(
        latent=chosen.latent,
        kind=kind,
        doc=chosen.doc.astype(np.int32),
        peak=(chosen.row - start).astype(np.int32),
        token=np.where(rows >= 0, token[rows], -1).astype(np.int32),
        act=act,
    )
