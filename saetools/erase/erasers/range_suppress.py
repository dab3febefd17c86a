"""Range suppression: a chosen latent is switched off only inside the concept's own range.

    z_j -> 0   where   μ_j − τ σ_j ≤ z_j ≤ μ_j + τ σ_j

μ, σ: mean and standard deviation of the latent on rows of the concept on which it fires. A latent
that means one thing when weak and another when strong keeps the other. NeuronLens (Haider et al.
2025, arXiv:2502.06809), on SAE latents in Fereidouni et al. 2025 (arXiv:2508.15094); theirs takes
silent rows into μ and σ, which for sparse latents would be a range about zero.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from saetools.erase.base import ERASERS
from saetools.erase.latent_stats import latent_rows
from saetools.erase.latents import LatentEraser
from saetools.erase.rows import LabelledRows
from saetools.erase.select import SelectConfig
from saetools.sae import SAE

__all__ = ["RangeSuppress", "RangeSuppressConfig"]


class RangeSuppressConfig(SelectConfig):
    """NeuronLens takes two standard deviations."""

    width: float = Field(default=2.0, gt=0, description="τ: half the range, standard deviations")


@ERASERS.register("range_suppress")
class RangeSuppress(LatentEraser):
    """Switches latents off inside the range that they have on the concept."""

    Config = RangeSuppressConfig

    @classmethod
    def describe(
        cls, latents: Int[Tensor, " m"], rows: LabelledRows, config: Any, sae: SAE
    ) -> Mapping[str, Tensor]:
        """Both ends of each latent's range."""
        z = latent_rows(sae, rows.x[rows.forget], latents)
        fires = z != 0
        n = fires.sum(0).clamp_min(1)
        mean = z.sum(0) / n
        std = (((z - mean) ** 2 * fires).sum(0) / n).sqrt()
        return {"low": mean - config.width * std, "high": mean + config.width * std}

    def new_activations(self, old: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Zero inside the range."""
        inside = (old >= self.tensors["low"]) & (old <= self.tensors["high"])
        return torch.where(inside, 0.0, old)
