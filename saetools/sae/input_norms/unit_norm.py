"""A token over its own root mean square, so that its norm is √d_in."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.sae.base import INPUT_NORMS
from saetools.sae.normed import InputNorm, Spread

__all__ = ["UnitNorm"]


@INPUT_NORMS.register("unit_norm")
@dataclass(frozen=True)
class UnitNorm(InputNorm):
    """As SAELens' `constant_norm_rescale` has it."""

    def measure(self, x: Float[Tensor, "n d_in"]) -> Spread:
        """Zero and the root mean square of each token."""
        rms = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
        return Spread(torch.zeros_like(rms), rms, rms)

    def scaled(self, scale: float) -> "UnitNorm":  # noqa: ARG002 - it has no unit
        """The same for tokens that are `scale` times as small."""
        return self
