"""Resample: the chosen latents take activations that they have on other tokens.

The draw of a token depends on the seed, on its place in its text and on its token id, and on
nothing else: so it is the same with and without KV cache, alone and in a batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.errors import ShapeError
from saetools.intervene.operations._base import OPERATIONS, LatentOperation, Rows, once

__all__ = ["Resample"]

# Odd multipliers that spread neighbouring numbers over 64 bits (splitmix64's, as signed integers).
_MIX = (-7046029254386353131, -4658895280553007687, -7723592293110705685)


@OPERATIONS.register("resample")
@dataclass(frozen=True)
class Resample(LatentOperation):
    """new = one of the given rows, drawn anew for each token: all chosen latents from one row.

    Args:
        latents: which ones.
        values: activations to draw from, (n_rows, m): one row a token that was observed, a column
            for each of `latents` in their order. A tensor will do.
        seed: of the draws.
    """

    type: ClassVar[str] = "resample"
    latents: Iterable[int]
    values: Sequence[Sequence[float]]
    seed: int = 0

    def __post_init__(self) -> None:
        chosen = once(self.latents, what="resample")
        table = torch.as_tensor(self.values, dtype=torch.float32).detach().cpu()
        if table.ndim != 2 or len(table) == 0 or table.shape[1] != len(chosen):
            raise ShapeError(
                f"resample takes values of shape (n_rows, {len(chosen)}), a column for each of its "
                f"latents; got {tuple(table.shape)}; pass e.g. sae.encode(x).of(latents)"
            )
        object.__setattr__(self, "latents", chosen)
        object.__setattr__(self, "values", tuple(map(tuple, table.tolist())))

    @property
    def chosen(self) -> tuple[int, ...]:
        """The latents."""
        return tuple(self.latents)

    def new(self, old: Float[Tensor, "n m"], rows: Rows) -> Float[Tensor, "n m"]:
        """Activations after it."""
        table = self._table  # (n_rows, m)
        draws = _draws(rows.place, rows.token, self.seed, len(table))
        return table[draws.to(table.device)].to(old.device)

    @cached_property
    def _table(self) -> Float[Tensor, "n_rows m"]:
        return torch.tensor(self.values, dtype=torch.float32)

    def settled(self) -> dict[int, Any]:
        """Each latent's value is a draw."""
        return dict.fromkeys(self.chosen, ("draw", self.seed, hash(self.values)))


def _draws(
    place: Int[Tensor, " n"], token: Int[Tensor, " n"], seed: int, n_rows: int
) -> Int[Tensor, " n"]:
    """A row number for each token, spread evenly; integer products wrap around, as they should."""
    mixed = place.long() * _MIX[0] + token.long() * _MIX[1] + seed * 0x9E3779B9
    for multiplier in _MIX[1:]:
        mixed = (mixed ^ ((mixed >> 31) & 0x1FFFFFFFF)) * multiplier
    mixed = mixed ^ ((mixed >> 32) & 0xFFFFFFFF)
    return (mixed & 0x7FFFFFFFFFFFFFFF) % n_rows
