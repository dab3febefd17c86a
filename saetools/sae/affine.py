"""The map from raw activations to the scale of training, and its inverse.

    x' = scale · (x − shift) · matrix

A trained SAE has this map folded into its weights (`SAE.folded`), so that it reads raw activations.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Affine"]


class Affine(NamedTuple):
    """A scale, and optionally a shift (d_in,) and an invertible matrix (d_in, d_in)."""

    scale: float = 1.0
    shift: Tensor | None = None
    matrix: Tensor | None = None
    inverse_matrix: Tensor | None = None

    def __call__(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """Bring raw activations to the scale of training."""
        if self.shift is not None:
            x = x - self.shift
        if self.matrix is not None:
            x = x @ self.matrix
        return x * self.scale if self.scale != 1.0 else x

    def undo(self, y: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """Bring activations in the scale of training back to raw ones."""
        y = y / self.scale
        if self.inverse_matrix is not None:
            y = y @ self.inverse_matrix
        return y + self.shift if self.shift is not None else y

    def inverse(self) -> "Affine":
        """The map that undoes this one."""
        shift = None
        if self.shift is not None:
            turned = self.shift if self.matrix is None else self.shift @ self.matrix
            shift = -self.scale * turned
        return Affine(1 / self.scale, shift, self.inverse_matrix, self.matrix)

    def to(self, device: torch.device | str) -> "Affine":
        """The same map on another device."""
        moved = (t if t is None else t.to(device) for t in self[1:])
        return Affine(self.scale, *moved)
