"""Does a latent fire more in one class of texts than in the other? One p value a latent.

The statistic is the rank sum of the first class (Mann & Whitney 1947), its null that of shuffled
classes. A latent is silent in most texts, and so many ties, in classes of unequal size, are where
the usual normal approximation gives p values that are far too small. Here silence is counted
exactly. Of the f texts in which a latent fires, J fall into the class; over shuffles J is
hypergeometric, and given J the rank sum within the f texts is a rank sum of J among f:

    P(W ≥ w) = Σ_j P(J = j) · P(R_j ≥ w − (silent texts' share))

P(R_j ≥ ·) is counted exactly up to f = 32, ties included, and beyond that is the normal
approximation with its variance corrected for ties and its kurtosis (Fix & Hodges 1955).
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom, norm, rankdata

from saetools.evaluate.bootstrap import Floats

__all__ = ["adjusted", "rank_p_values", "smallest_p_value"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_EXACT = 32
_TINY = 1e-9  # of a comparison of sums of half ranks


def rank_p_values(latents: Any, positive: Bools) -> Floats:
    """Two-sided p value of every latent, (n_latents,); 1 for one that never fires.

    Args:
        latents: pooled activations, none of them negative, scipy CSC (n_texts, n_latents).
        positive: which texts are of the class, (n_texts,).
    """
    found = np.ones(latents.shape[1])
    for latent in np.flatnonzero(np.diff(latents.indptr)):
        entries = slice(latents.indptr[latent], latents.indptr[latent + 1])
        found[latent] = _p_value(
            latents.data[entries], positive[latents.indices[entries]],
            n_texts=len(positive), n_positive=int(positive.sum()),
        )  # fmt: skip
    return found


def smallest_p_value(positive: Bools) -> float:
    """The least p value that so many texts can give: that of a latent which parts them wholly."""
    return _p_value(
        np.arange(1.0, len(positive) + 1), np.sort(positive),
        n_texts=len(positive), n_positive=int(positive.sum()),
    )  # fmt: skip


def adjusted(p: Floats) -> Floats:
    """Benjamini–Hochberg adjusted p values (1995); those at most q are discoveries at FDR q."""
    order = np.argsort(p, kind="stable")
    steps = p[order] * len(p) / np.arange(1, len(p) + 1)
    found = np.empty(len(p))
    found[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return found


def _p_value(values: Floats, positive: Bools, *, n_texts: int, n_positive: int) -> float:
    """Args: values of the firing texts and their class; the others are silent."""
    f = len(values)
    inner = rankdata(values)  # from 1, ties share the mean
    n_silent = n_texts - f
    # A firing text ranks above all silent ones; relative to a silent text's rank that is worth
    # its inner rank and half of the silent texts.
    lift = (n_silent - 1) / 2 if n_silent else 0.0
    above = float(inner[positive].sum()) + lift * int(positive.sum())
    counts = np.arange(max(0, f - (n_texts - n_positive)), min(f, n_positive) + 1)
    chance = hypergeom.pmf(counts, n_texts, f, n_positive)
    counts, chance = counts[chance > 0], chance[chance > 0]
    limits = above - lift * counts
    upper, lower = _exact(inner, counts, limits) if f <= _EXACT else _normal(inner, counts, limits)
    tail = min(float(chance @ upper), float(chance @ lower))
    return min(1.0, 2 * tail)


def _exact(inner: Floats, counts: Ints, limits: Floats) -> tuple[Floats, Floats]:
    table = _sums(tuple(np.sort(np.rint(2 * inner)).astype(int).tolist()))
    sums = np.arange(table.shape[1]) / 2
    shares = table[counts] / table[counts].sum(1, keepdims=True)
    upper = (shares * (sums >= limits[:, None] - _TINY)).sum(1)
    lower = (shares * (sums <= limits[:, None] + _TINY)).sum(1)
    return upper, lower


@lru_cache(maxsize=256)
def _sums(doubled: tuple[int, ...]) -> Floats:
    """How many subsets of each size have each sum, (f + 1, largest sum + 1)."""
    table = np.zeros((len(doubled) + 1, sum(doubled) + 1))
    table[0, 0] = 1
    for rank in doubled:
        table[1:, rank:] += table[:-1, : table.shape[1] - rank].copy()
    return table


def _normal(inner: Floats, counts: Ints, limits: Floats) -> tuple[Floats, Floats]:
    f = len(inner)
    j, rest = counts.astype(np.float64), (f - counts).astype(np.float64)
    mean = j * inner.mean()
    std = np.sqrt(j * rest / (f - 1) * inner.var())
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = -1.2 * (j**2 + rest**2 + j * rest + f) / (j * rest * (f + 1))
    upper = _tail((limits - 0.5 - mean), std, excess)
    lower = _tail((mean - limits - 0.5), std, excess)
    return upper, lower


def _tail(gap: Floats, std: Floats, excess: Floats) -> Floats:
    """P(a variable of mean 0 lies `gap` or more above it); certain where it does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        z = gap / std
        found = norm.sf(z) + norm.pdf(z) * excess / 24 * (z**3 - 3 * z)
    # The kurtosis makes tails lighter; beyond its reach the plain normal tail is the larger one.
    found = np.where(found <= 0, norm.sf(z), found)
    return np.clip(np.where(std > 0, found, gap <= 0), 0.0, 1.0)
