"""Latents that fire on the same tokens, counted sparsely: never a matrix of all pairs.

The score of a pair is the correlation of "fires" over training tokens,

    phi = (p_ij − p_i p_j) / √(p_i (1 − p_i) p_j (1 − p_j)):

1 where both fire on the same tokens, 0 where they are independent, whatever their rates. Jaccard
would call any two dense latents neighbours (two that fire on half of all tokens by chance share a
third), and pointwise mutual information any two that met once. Pairs that meet on fewer than 3
training tokens are left out.

A parent is sought in the narrower levels of a Matryoshka SAE: a latent that fires on at least half
of the child's tokens, and at least twice as often there as everywhere.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from saetools.analysis.codes import Codes, Entries
from saetools.analysis.neighbours import N_NEIGHBOURS, Neighbours

__all__ = ["Family", "coactivation", "levels"]

_MIN_TOGETHER = 3  # tokens
_MIN_SHARE, _MIN_LIFT = 0.5, 2.0  # of a parent
_TABLE = 16_000_000  # counts held at once
_ENTRIES = 4_000_000  # pairs counted at once

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Family(NamedTuple):
    """What firing together says: `near` by phi, `parents` and `children` by the share."""

    near: Neighbours
    parents: Neighbours | None
    children: Neighbours | None


def levels(n_latents: int, widths: list[int]) -> npt.NDArray[np.int8]:
    """Which level of a Matryoshka SAE each latent belongs to, 0 the narrowest; 0 without widths."""
    inner = np.asarray(widths[:-1], dtype=np.int64)
    return np.searchsorted(inner, np.arange(n_latents), side="right").astype(np.int8)


def coactivation(
    codes: Codes,
    entries: Entries,
    first: int,
    last: int,
    *,
    train_row: Callable[[Ints], npt.NDArray[np.bool_]],
    fired_train: Ints,
    level: npt.NDArray[np.int8],
    n: int = N_NEIGHBOURS,
) -> Family:
    """Rank the latents that fire on the same training tokens as `first` to `last - 1`.

    Args:
        codes: active latents of every row.
        entries: the activations of these latents.
        first, last: which latents; the tables have a row for each of them.
        train_row: which of some rows belong to training documents.
        fired_train: training tokens on which each latent of the dictionary fires.
        level: level of each; parents are sought where there is more than one.
        n: relatives kept of each latent.
    """
    nested = bool(level.max(initial=0) > 0)
    tables = [Neighbours.none(last - first, n) for _ in range(3 if nested else 1)]
    bounds = np.searchsorted(entries.latent, np.arange(first, last + 1))
    size = max(_TABLE // max(codes.n_latents, 1), 1)
    n_train = int(train_row(np.arange(len(codes.bounds) - 1)).sum())
    for start in range(first, last, size):
        stop = min(start + size, last)
        part = slice(int(bounds[start - first]), int(bounds[stop - first]))
        row = entries.row[part]
        seen = train_row(row)
        together = _together(codes, entries.latent[part][seen] - start, row[seen], stop - start)
        own = np.arange(stop - start)
        together[own, own + start] = 0
        pairs = _Pairs(together, fired_train.astype(np.float64), start, n_train, level)
        _best(pairs.phi(), together, tables[0], start - first)
        if nested:
            _best(pairs.shares(of="parents"), together, tables[1], start - first)
            _best(pairs.shares(of="children"), together, tables[2], start - first)
    return Family(tables[0], *(tables[1:] if nested else (None, None)))


def _together(codes: Codes, latent: Ints, row: Ints, n: int) -> Ints:
    """Number of the given rows on which each of `n` latents fires with each of the dictionary."""
    counts = np.zeros((n, codes.n_latents), dtype=np.int64)
    flat = counts.reshape(-1)
    begin = codes.bounds[row]
    width = codes.bounds[row + 1] - begin
    for start, stop in _runs(width, _ENTRIES):
        here, wide = slice(start, stop), width[start:stop]
        place = np.arange(int(wide.sum())) - np.repeat(np.cumsum(wide) - wide, wide)
        other = codes.latents[np.repeat(begin[here], wide) + place]
        np.add.at(flat, np.repeat(latent[here] * codes.n_latents, wide) + other, 1)
    return counts


def _runs(width: Ints, limit: int) -> list[tuple[int, int]]:
    """Cut a list of sizes into runs that hold about `limit` in all."""
    ends = np.cumsum(width)
    if not len(ends):
        return []
    cuts = np.searchsorted(ends, np.arange(limit, int(ends[-1]) + limit, limit))
    edges = np.unique(np.r_[0, np.minimum(cuts + 1, len(width)), len(width)]).tolist()
    return list(pairwise(edges))


class _Pairs(NamedTuple):
    """Counts of some latents, `start` the first of them, with all latents."""

    together: Ints
    fired: Floats
    start: int
    n_train: int
    level: npt.NDArray[np.int8]

    def phi(self) -> Floats:
        """Correlation of firing; 0 for pairs that met too seldom."""
        here, fired, n = self._own(self.fired), self.fired, self.n_train
        spread = np.sqrt(here * (n - here)) * np.sqrt(fired * (n - fired))
        with np.errstate(invalid="ignore", divide="ignore"):  # fires never or always
            phi = (n * self.together - here * fired) / spread
        return np.where((spread > 0) & (self.together >= _MIN_TOGETHER), phi, 0.0)

    def shares(self, *, of: Literal["parents", "children"]) -> Floats:
        """Share of the child's tokens on which its parent fires; 0 for pairs that are none."""
        here, mine = self._own(self.fired), self._own(self.level)
        child, parent = (here, self.fired) if of == "parents" else (self.fired, here)
        nested = self.level < mine if of == "parents" else self.level > mine
        share = self.together / np.maximum(child, 1)
        lifted = share * self.n_train >= _MIN_LIFT * parent
        enough = (share >= _MIN_SHARE) & (self.together >= _MIN_TOGETHER)
        return np.where(nested & lifted & enough, share, 0.0)

    def _own(self, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of a column that belongs to these latents, (n, 1)."""
        return column[self.start : self.start + len(self.together), None]


def _best(score: Floats, together: Ints, into: Neighbours, first: int) -> None:
    """Write the best positive scores of each row into a table; of equal ones the commoner."""
    n = min(into.ids.shape[1], score.shape[1])
    if not n:
        return
    fine = score + 1e-9 * together / (together.max(initial=0) + 1)
    best = np.argpartition(-fine, n - 1, axis=1)[:, :n]
    order = np.argsort(-np.take_along_axis(fine, best, 1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, 1)
    found = np.take_along_axis(score, best, 1)
    here = slice(first, first + len(score))
    into.ids[here, :n] = np.where(found > 0, best, -1)
    into.scores[here, :n] = np.where(found > 0, found, 0)
