"""Zero: the chosen latents are switched off, always (full masking).

Card of Fereidouni et al. 2025 (arXiv:2508.15094), intervention 1; with the SAE's error kept.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.erase.base import ERASERS
from saetools.erase.latents import LatentEraser

__all__ = ["Zero"]


@ERASERS.register("zero")
class Zero(LatentEraser):
    """Switches the latents off that are stronger on what is forgotten."""

    def new_activations(self, old: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Zero."""
        return torch.zeros_like(old)
