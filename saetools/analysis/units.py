"""On which words a latent spends its activation, in training and in held-out documents.

A unit is what is counted: the word a token belongs to, the word before it, the pair of both, or the
word after it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int64

from saetools.analysis.codes import Entries
from saetools.analysis.order import places, strongest_first

__all__ = ["UnitMass", "UnitRows", "UnitTable", "join_masses", "unit_masses"]

_KEPT = 64  # heaviest units kept of each latent and split

Ints = npt.NDArray[np.int64]


class UnitMass(NamedTuple):
    """Activation of latents on units, sorted by latent; heaviest units of each latent only."""

    latent: Ints
    unit: Ints
    count_train: Ints
    mass_train: npt.NDArray[np.float64]
    mass_held_out: npt.NDArray[np.float64]


@dataclass(frozen=True)
class UnitRows:
    """The units of one latent, heaviest in training first.

    Args:
        text: spelling of each unit.
        count: training tokens of the unit on which the latent fires.
        mass: activation on them, summed.
        background: training tokens of the unit, whether the latent fires or not.
        held_out_mass: activation on the unit in held-out documents.
    """

    text: list[str]
    count: Ints
    mass: npt.NDArray[np.float64]
    background: Ints
    held_out_mass: npt.NDArray[np.float64]


@dataclass(frozen=True)
class UnitTable:
    """Units of all latents. Units beyond the 64 heaviest of a latent and split are left out.

    Args:
        strings: spelling of each unit.
        background: training tokens of each unit.
        bounds: entries of latent j are bounds[j] to bounds[j + 1].
        unit, count_train, mass_train, mass_held_out: of each entry.
    """

    strings: list[str]
    background: Int64[np.ndarray, " n_units"]
    bounds: Int64[np.ndarray, " n_latents1"]
    unit: Int64[np.ndarray, " entries"]
    count_train: Int64[np.ndarray, " entries"]
    mass_train: Float64[np.ndarray, " entries"]
    mass_held_out: Float64[np.ndarray, " entries"]

    def of(self, latent: int) -> UnitRows:
        """The units of one latent."""
        part = slice(int(self.bounds[latent]), int(self.bounds[latent + 1]))
        unit = self.unit[part]
        return UnitRows(
            text=[self.strings[u] for u in unit],
            count=self.count_train[part],
            mass=self.mass_train[part],
            background=self.background[unit],
            held_out_mass=self.mass_held_out[part],
        )


def unit_masses(
    entries: Entries,
    unit_of_row: Ints,
    *,
    held_out_row: npt.NDArray[np.bool_],
) -> UnitMass:
    """Sum activations by latent and unit; rows with unit -1 are left out.

    Args:
        entries: activations, latents numbered as in the whole dictionary.
        unit_of_row: unit of each row of the store.
        held_out_row: whether a row belongs to a held-out document.
    """
    unit = unit_of_row[entries.row]
    n_units = int(unit.max(initial=0)) + 1
    key = entries.latent * n_units + unit
    if len(unit) and unit.min() < 0:
        key[unit < 0] = -1
    order = np.argsort(key, kind="stable")
    order = order[np.searchsorted(key[order], 0) :]
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    if not len(starts):
        none = np.zeros(0, dtype=np.int64)
        return UnitMass(none, none, none, none.astype(np.float64), none.astype(np.float64))
    latent, unit = np.divmod(key[starts], n_units)
    value, held = entries.value[order].astype(np.float64), held_out_row[entries.row[order]]
    sums = UnitMass(
        latent,
        unit,
        np.add.reduceat((~held).astype(np.int64), starts),
        np.add.reduceat(np.where(held, 0.0, value), starts),
        np.add.reduceat(np.where(held, value, 0.0), starts),
    )
    by_train = strongest_first(latent, sums.mass_train)
    kept = _heaviest(latent, sums.mass_train) | _heaviest(latent, sums.mass_held_out)
    by_train = by_train[kept[by_train]]
    return _map(sums, lambda column: column[by_train])


def join_masses(
    parts: Sequence[UnitMass],
    *,
    n_latents: int,
    train_units: Ints,
    spell: Callable[[int], str],
) -> UnitTable:
    """Join the parts of all latents into one table that names its units.

    Args:
        parts: masses of ranges of latents, in order.
        n_latents: size of the dictionary.
        train_units: unit of every training token.
        spell: spelling of a unit.
    """
    whole = _map(
        range(len(UnitMass._fields)), lambda i: np.concatenate([part[i] for part in parts])
    )
    kept, unit = np.unique(whole.unit, return_inverse=True)
    sizes = np.bincount(whole.latent, minlength=n_latents)
    return UnitTable(
        strings=[spell(u) for u in kept.tolist()],
        background=_counts(train_units, kept),
        bounds=np.r_[0, np.cumsum(sizes)],
        unit=unit.astype(np.int64),
        count_train=whole.count_train,
        mass_train=whole.mass_train,
        mass_held_out=whole.mass_held_out,
    )


def _map(columns: Iterable[Any], change: Callable[[Any], npt.NDArray[Any]]) -> UnitMass:
    return UnitMass(*(change(column) for column in columns))


def _counts(units: Ints, kept: Ints) -> Ints:
    """How often each of the sorted units `kept` occurs in `units`."""
    if not len(kept):
        return np.zeros(0, dtype=np.int64)
    place = np.minimum(np.searchsorted(kept, units), len(kept) - 1)
    return np.bincount(place[kept[place] == units], minlength=len(kept))


def _heaviest(latent: Ints, mass: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which entries are among the heaviest of their latent, and not empty; `latent` is sorted."""
    filled = np.flatnonzero(mass > 0)
    order = filled[strongest_first(latent[filled], mass[filled])]
    kept = np.zeros(len(latent), dtype=bool)
    kept[order] = places(latent[order]) < _KEPT
    return kept
