"""On which words a latent spends its activation, in training and in held-out documents.

A unit is what is counted: the word a token belongs to, the word before it, the pair of both, or the
word after it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

from saetools.analysis.codes import Entries
from saetools.analysis.order import places, strongest_first

__all__ = ["UnitMass", "UnitRows", "UnitTable", "join_masses", "unit_masses"]

_KEPT = 64  # heaviest units kept of each latent and split

Ints = npt.NDArray[np.int64]


class UnitMass(NamedTuple):
    """Activation of latents on units, sorted by latent; heaviest units of each latent only."""

    latent: Ints
    unit: Ints
    count_train: npt.NDArray[np.int32]
    mass_train: npt.NDArray[np.float32]
    mass_held_out: npt.NDArray[np.float32]


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
    count: npt.NDArray[np.int32]
    mass: npt.NDArray[np.float32]
    background: Ints
    held_out_mass: npt.NDArray[np.float32]


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
    unit: Int32[np.ndarray, " entries"]
    count_train: Int32[np.ndarray, " entries"]
    mass_train: Float32[np.ndarray, " entries"]
    mass_held_out: Float32[np.ndarray, " entries"]

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


def unit_masses(entries: Entries, unit: Ints, *, held_out: npt.NDArray[np.bool_]) -> UnitMass:
    """Sum activations by latent and unit; those of unit -1 are left out.

    Args:
        entries: activations, latents numbered as in the whole dictionary.
        unit: unit of each.
        held_out: whether each belongs to a held-out document.
    """
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
        return _narrow(none, none, none, none, none)
    latent, unit = np.divmod(key[starts], n_units)
    value, held = entries.value[order].astype(np.float64), held_out[order]
    sums = _narrow(
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
    whole: UnitMass,
    *,
    n_latents: int,
    train_units: Iterable[Ints],
    spell: Callable[[int], str],
) -> UnitTable:
    """Make one table of the masses of all latents, and name its units.

    Args:
        whole: masses, sorted by latent.
        n_latents: size of the dictionary.
        train_units: unit of every training token, block by block.
        spell: spelling of a unit.
    """
    kept, unit = np.unique(whole.unit, return_inverse=True)
    sizes = np.bincount(whole.latent, minlength=n_latents)
    return UnitTable(
        strings=[spell(u) for u in kept.tolist()],
        background=_counts(train_units, kept),
        bounds=np.r_[0, np.cumsum(sizes)],
        unit=unit.astype(np.int32),
        count_train=whole.count_train,
        mass_train=whole.mass_train,
        mass_held_out=whole.mass_held_out,
    )


def _narrow(latent: Ints, unit: Ints, count: Ints, *masses: npt.NDArray[Any]) -> UnitMass:
    """Sums in the width that they are kept in: there are many of them."""
    train, held_out = (mass.astype(np.float32) for mass in masses)
    return UnitMass(latent, unit, count.astype(np.int32), train, held_out)


def _map(columns: Iterable[Any], change: Callable[[Any], npt.NDArray[Any]]) -> UnitMass:
    return UnitMass(*(change(column) for column in columns))


def _counts(blocks: Iterable[Ints], kept: Ints) -> Ints:
    """How often each of the sorted units `kept` occurs in the blocks."""
    counts = np.zeros(len(kept), dtype=np.int64)
    if not len(kept):
        return counts
    for units in blocks:
        place = np.minimum(np.searchsorted(kept, units), len(kept) - 1)
        counts += np.bincount(place[kept[place] == units], minlength=len(kept))
    return counts


def _heaviest(latent: Ints, mass: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which entries are among the heaviest of their latent, and not empty; `latent` is sorted."""
    filled = np.flatnonzero(mass > 0)
    order = filled[strongest_first(latent[filled], mass[filled])]
    kept = np.zeros(len(latent), dtype=bool)
    kept[order] = places(latent[order]) < _KEPT
    return kept
