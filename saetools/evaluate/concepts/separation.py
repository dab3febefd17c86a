"""Excess Jensen–Shannon distances of all units between groups of texts, and the best units.

Groups have one size. The excess is the distance minus what shuffled groups give; a group's best
unit is chosen on half of the texts and measured on the other half.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.concepts.histograms import bin_codes, distances, histograms, null_distance
from saetools.evaluate.concepts.probe import Units

__all__ = ["Separation", "separation"]

Ints = npt.NDArray[np.int64]

_MOST_BINS, _LEAST_BINS, _TEXTS_A_BIN = 64, 4, 8
_UNITS_AT_ONCE = 512
_EQUAL_DRAWS = 16
_TEXT_DRAWS = 30


@dataclass(frozen=True)
class Separation:
    """What one kind of unit shows.

    Args:
        mean: mean excess over pairs and live units; null: the mean that was subtracted.
        stderr: of `mean`, over texts.
        best: of each group the unit chosen, (n_groups,).
        excess: its excess on the held-out half, (n_groups,).
        best_stderr: of the mean of `excess`, over texts.
        equal: `excess` with fewer units to choose from, mean of the draws, (n_groups,).
    """

    mean: float
    null: float
    stderr: float
    best: Ints
    excess: Floats
    best_stderr: float
    equal: Floats


def separation(units: Units, group: Ints, *, seed: int, n_choices: int | None = None) -> Separation:
    """Separate groups of one size by single units.

    Args:
        units: activations, (n_texts, n_units), dense or sparse.
        group: group of each text, counted from 0, all of one size.
        n_choices: units to choose from for `equal`; None: all.
    """
    rng = np.random.default_rng([seed, 0x5E])
    live = np.flatnonzero(np.asarray(abs(units).max(0).todense() if sparse.issparse(units)
                                     else abs(units).max(0)).ravel())  # fmt: skip
    units = sparse.csc_matrix(units)[:, live] if sparse.issparse(units) else units[:, live]
    if not len(live):
        none = np.zeros(int(group.max()) + 1)
        return Separation(0.0, 0.0, 0.0, none.astype(np.int64), none, 0.0, none)
    whole = _Scan(units, group, seed)
    choosing = _half(group, rng)
    scores = _Scan(_rows(units, choosing), group[choosing], seed).by_group  # (n_groups, n_live)
    test = _Scan(_rows(units, ~choosing), group[~choosing], seed)
    best = scores.argmax(1)
    own = np.arange(len(best))
    draws = [best]
    if n_choices is not None and n_choices < len(live):
        some = [rng.choice(len(live), n_choices, replace=False) for _ in range(_EQUAL_DRAWS)]
        draws = [pick[scores[:, pick].argmax(1)] for pick in some]
    return Separation(
        mean=float(whole.by_group.mean()),
        null=float(whole.null.mean()),
        stderr=whole.stderr(rng.permutation(len(live))[:_UNITS_AT_ONCE], rng),
        best=live[best].astype(np.int64),
        excess=test.by_group[own, best],
        best_stderr=test.stderr(best, rng, own=True),
        equal=np.mean([test.by_group[own, pick] for pick in draws], axis=0),
    )


class _Scan:
    """Excess distances of all units, in blocks, so that no table (texts × units) is built whole.

    `by_group` is the mean over a group's pairs, (n_groups, n_units); `null` is (n_units,).
    """

    def __init__(self, units: Units, group: Ints, seed: int) -> None:
        self._units, self._group = units, group
        self._n_groups = int(group.max()) + 1
        per_group = len(group) // self._n_groups
        self._n_bins = int(np.clip(per_group // _TEXTS_A_BIN, _LEAST_BINS, _MOST_BINS))
        means, nulls = [], []
        for codes in self._blocks(np.arange(units.shape[1])):
            nulls.append(
                null_distance(codes, group, n_groups=self._n_groups, n_bins=self._n_bins, seed=seed)
            )
            means.append(self._distances(codes, group) - nulls[-1])
        self.by_group, self.null = np.concatenate(means, axis=1), np.concatenate(nulls)

    def stderr(self, units: Ints, rng: np.random.Generator, *, own: bool = False) -> float:
        """How far the mean over `units` moves when texts are drawn anew within groups.

        Args:
            own: unit i belongs to group i, and only its distances to the others count.
        """
        (codes,) = self._blocks(units, size=len(units))
        members = [np.flatnonzero(self._group == g) for g in range(self._n_groups)]
        values = []
        for _ in range(_TEXT_DRAWS):
            drawn = np.concatenate([rng.choice(rows, len(rows)) for rows in members])
            found = self._distances(codes[drawn], self._group[drawn])
            values.append(found.diagonal().mean() if own else found.mean())
        return float(np.std(values, ddof=1))

    def _distances(self, codes: Ints, group: Ints) -> Floats:
        shares = histograms(codes, group, n_groups=self._n_groups, n_bins=self._n_bins)
        a, b = np.triu_indices(self._n_groups, 1)
        by_pair = distances(shares)
        total = np.zeros((self._n_groups, codes.shape[1]))
        np.add.at(total, a, by_pair)
        np.add.at(total, b, by_pair)
        return total / (self._n_groups - 1)

    def _blocks(self, units: Ints, *, size: int = _UNITS_AT_ONCE) -> Iterator[Ints]:
        for start in range(0, len(units), size):
            block = self._units[:, units[start : start + size]]
            dense = block.toarray() if sparse.issparse(block) else block
            yield bin_codes(dense, n_bins=self._n_bins)


def _half(group: Ints, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Half of each group's texts."""
    chosen = np.zeros(len(group), dtype=bool)
    for g in range(int(group.max()) + 1):
        rows = np.flatnonzero(group == g)
        chosen[rng.choice(rows, len(rows) // 2, replace=False)] = True
    return chosen


def _rows(units: Units, which: npt.NDArray[np.bool_]) -> Units:
    return units[np.flatnonzero(which)]
