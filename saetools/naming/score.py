"""How much of a latent's held-out activation a name explains, beside the name of another latent."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from saetools.analysis import LatentIndex
from saetools.naming.base import Name

__all__ = ["precision", "scored"]


def scored(index: LatentIndex, names: Sequence[Name]) -> list[Name]:
    """Fill in `held_out_precision` and `swapped_precision`.

    The other name is that of the latent half a list away, or the next one that claims other words.
    """
    claims = [name for name in names if name.words]
    place = {name.latent: i for i, name in enumerate(claims)}
    return [
        replace(
            name,
            held_out_precision=precision(index, name.latent, name),
            swapped_precision=_swapped(index, name, claims, place.get(name.latent)),
        )
        for name in names
    ]


def precision(index: LatentIndex, latent: int, name: Name) -> float:
    """Share of the held-out activation of `latent` that falls on the words of `name`.

    Only the 64 heaviest words of a latent are kept in the index; others count as not named.
    Returns nan if the latent is silent in held-out documents or the name claims no words.
    """
    total = float(index.stats.mass_held_out[latent])
    if name.unit is None or name.unit not in index.units or not name.words or total <= 0:
        return float("nan")
    rows = index.units[name.unit].of(latent)
    wanted = set(name.words)
    on_name = np.array([text in wanted for text in rows.text], dtype=bool)
    return min(float(rows.held_out_mass[on_name].sum()) / total, 1.0)


def _swapped(index: LatentIndex, name: Name, claims: Sequence[Name], at: int | None) -> float:
    if at is None:
        return float("nan")
    for step in range(len(claims)):
        other = claims[(at + len(claims) // 2 + step) % len(claims)]
        if (other.unit, set(other.words)) != (name.unit, set(name.words)):
            return precision(index, name.latent, other)
    return float("nan")
