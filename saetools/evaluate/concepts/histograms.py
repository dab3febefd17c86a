"""Jensen–Shannon distances between the distributions of a unit's activation in groups of texts.

Bins are adaptive: one for exact zeros, the others hold equal numbers of the remaining values. So a
distance does not change with a monotone map of the activation that keeps zero. Distances from few
texts are too large: with n texts a group and B bins the divergence of equal distributions is about
(B − 1)/(4 n ln 2) bits and not 0. `null_distance` is what shuffled groups give.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from saetools.evaluate.bootstrap import Floats

__all__ = ["bin_codes", "distances", "histograms", "jensen_shannon", "null_distance"]

Codes = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]


def bin_codes(values: npt.NDArray[np.floating], *, n_bins: int) -> Codes:
    """Bin of each value among those of its column; equal values share a bin, 0 has its own.

    Args:
        values: activations, (n, n_units).
        n_bins: bins, that of zero included.
    """
    on = values != 0
    # Zeros rank below all others, so what is left of a rank counts non-zero values only.
    rank = rankdata(np.where(on, values, -np.inf), method="min", axis=0) - 1 - (~on).sum(0)
    codes = 1 + rank * (n_bins - 1) // np.maximum(on.sum(0), 1)
    return np.where(on, codes, 0).astype(np.int64)


def histograms(codes: Codes, group: Ints, *, n_groups: int, n_bins: int) -> Floats:
    """Share of each group's texts in each bin, (n_groups, n_units, n_bins)."""
    n_units = codes.shape[1]
    cell = (group[:, None] * n_units + np.arange(n_units)) * n_bins + codes
    counts = np.bincount(cell.ravel(), minlength=n_groups * n_units * n_bins)
    sizes = np.bincount(group, minlength=n_groups)
    shares: Floats = counts.reshape(n_groups, n_units, n_bins) / sizes[:, None, None]
    return shares


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Jensen–Shannon divergence in bits, over the last axis: 0 of equals, 1 of disjoint ones."""
    gap = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
    return np.clip(gap, 0.0, 1.0)


def distances(shares: Floats, *, pairs: Sequence[tuple[int, int]] | None = None) -> Floats:
    """√JSD of pairs of groups, all by default, (n_pairs, n_units)."""
    if pairs is None:
        pairs = list(itertools.combinations(range(len(shares)), 2))
    return np.stack([np.sqrt(jensen_shannon(shares[a], shares[b])) for a, b in pairs])


def null_distance(
    codes: Codes, group: Ints, *, n_groups: int, n_bins: int, seed: int, n_shuffles: int = 10
) -> Floats:
    """Mean distance of each unit between groups made by shuffling, (n_units,).

    Groups have to be of one size: all pairs are then alike, and only disjoint ones are looked at.
    """
    rng = np.random.default_rng([seed, 0x15])
    pairs = [(a, a + 1) for a in range(0, n_groups - 1, 2)]
    total = np.zeros(codes.shape[1])
    for _ in range(n_shuffles):
        shares = histograms(codes, rng.permutation(group), n_groups=n_groups, n_bins=n_bins)
        total += distances(shares, pairs=pairs).mean(0)
    return total / n_shuffles


def _entropy(p: Floats) -> Floats:
    bits: Floats = -(p * np.log2(np.where(p > 0, p, 1.0))).sum(-1)
    return bits
