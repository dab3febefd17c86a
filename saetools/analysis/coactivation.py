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

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saetools.analysis.codes import Codes, Entries
from saetools.analysis.neighbours import N_NEIGHBOURS, Neighbours
from saetools.analysis.order import places

__all__ = ["Family", "coactivation", "levels"]

_MIN_TOGETHER = 3  # tokens
_MIN_SHARE, _MIN_LIFT = 0.5, 2.0  # of a parent
_TABLE = 8_000_000  # counts held at once
_ENTRIES = 8_000_000  # activations multiplied at once

Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]
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
    train: npt.NDArray[np.bool_],
    n_train: int,
    fired_train: Ints,
    level: npt.NDArray[np.int8],
    n: int = N_NEIGHBOURS,
) -> Family:
    """Rank the latents that fire on the same training tokens as `first` to `last - 1`.

    Args:
        codes: active latents of every row.
        entries: the activations of these latents.
        first, last: which latents; the tables have a row for each of them.
        train: which of the entries are of training documents.
        n_train: tokens of training documents.
        fired_train: training tokens on which each latent of the dictionary fires.
        level: level of each; parents are sought where there is more than one.
        n: relatives kept of each latent.
    """
    nested = bool(level.max(initial=0) > 0)
    tables = [Neighbours.none(last - first, n) for _ in range(3 if nested else 1)]
    bounds = np.searchsorted(entries.latent, np.arange(first, last + 1))
    size = max(_TABLE // max(codes.n_latents, 1), 1)
    for start in range(first, last, size):
        stop = min(start + size, last)
        part = slice(int(bounds[start - first]), int(bounds[stop - first]))
        seen = train[part]
        latent, row = entries.latent[part][seen] - start, entries.row[part][seen]
        together = _together(codes, latent, row, stop - start)
        own = np.arange(stop - start)
        together[own, own + start] = 0
        pairs = _pairs(together, fired_train, start, n_train)
        _best(pairs, pairs.phi(), tables[0], start - first)
        if nested:
            _best(pairs, pairs.shares(level, of="parents"), tables[1], start - first)
            _best(pairs, pairs.shares(level, of="children"), tables[2], start - first)
    return Family(tables[0], *(tables[1:] if nested else (None, None)))


def _together(codes: Codes, latent: Ints, row: Ints, n: int) -> Counts:
    """Number of the given rows on which each of `n` latents fires with each of the dictionary."""
    counts = np.zeros((n, codes.n_latents), dtype=np.int32)
    order = np.argsort(row, kind="stable")
    latent, row = latent[order], row[order]
    ones = np.ones(_ENTRIES, dtype=np.int32)
    for start, stop in codes.row_blocks(_ENTRIES):
        here = slice(*np.searchsorted(row, (start, stop)).tolist())
        if here.start == here.stop:
            continue
        edges = codes.bounds[start : stop + 1]
        others = np.asarray(codes.latents[int(edges[0]) : int(edges[-1])])
        n_rows = stop - start
        fires = csr_array(
            (_sized(ones, len(others)), others, (edges - edges[0]).astype(np.int32)),
            shape=(n_rows, codes.n_latents),
        )
        mine = csr_array(
            (
                _sized(ones, here.stop - here.start),
                (latent[here].astype(np.int32), (row[here] - start).astype(np.int32)),
            ),
            shape=(n, n_rows),
        )
        met = mine @ fires
        # Each pair stands once in a sparse product, so nothing is added twice.
        counts[np.repeat(np.arange(n), np.diff(met.indptr)), met.indices] += met.data
    return counts


def _sized(ones: Counts, n: int) -> Counts:
    """`n` ones; a single row may have more entries than a block should."""
    return ones[:n] if n <= len(ones) else np.ones(n, dtype=np.int32)


class _Pairs(NamedTuple):
    """Pairs of a latent of the range, `mine`, with any other that met often enough, by `mine`.

    Args:
        place: of `mine` in the range.
        mine, other: their numbers.
        together, fires, other_fires: training tokens on which both fire, and each of them.
        n_train: training tokens.
    """

    place: Ints
    mine: Ints
    other: Ints
    together: Floats
    fires: Floats
    other_fires: Floats
    n_train: float

    def phi(self) -> Floats:
        """Correlation of firing."""
        fires, others, n = self.fires, self.other_fires, self.n_train
        spread = np.sqrt(fires * (n - fires)) * np.sqrt(others * (n - others))
        # One that fires on every token tells nothing of the other.
        return (n * self.together - fires * others) / np.where(spread > 0, spread, np.inf)

    def shares(self, level: npt.NDArray[np.int8], *, of: Literal["parents", "children"]) -> Floats:
        """Share of the child's tokens on which its parent fires; 0 for pairs that are none."""
        child, parent = (self.fires, self.other_fires)
        nested = level[self.other] < level[self.mine]
        if of == "children":
            child, parent = parent, child
            nested = level[self.other] > level[self.mine]
        share = self.together / child
        lifted = share * self.n_train >= _MIN_LIFT * parent
        return np.where(nested & lifted & (share >= _MIN_SHARE), share, 0.0)


def _pairs(together: Counts, fired: Ints, start: int, n_train: int) -> _Pairs:
    place, other = np.nonzero(together >= _MIN_TOGETHER)
    mine = place + start
    met = together[place, other].astype(np.float64)  # its products pass 2^31
    fires, others = fired[mine].astype(np.float64), fired[other].astype(np.float64)
    return _Pairs(place, mine, other, met, fires, others, float(n_train))


def _best(pairs: _Pairs, score: Floats, into: Neighbours, first: int) -> None:
    """Write the best positive scores of each latent into a table; of equal ones the commoner."""
    order = np.lexsort((-pairs.together, -score, pairs.place))
    order = order[score[order] > 0]
    place = pairs.place[order]
    rank = places(place)
    kept = rank < into.ids.shape[1]
    at = place[kept] + first, rank[kept]
    into.ids[at], into.scores[at] = pairs.other[order][kept], score[order][kept]
