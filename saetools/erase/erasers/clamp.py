"""Clamp: where a chosen latent fires it gets a negative value, in multiples of its own size.

    always   z_j > 0  ->  z_j = -multiple · q99_j    Farrell, Lau and Conmy 2024 (arXiv:2410.19278)
    guarded  at tokens where any chosen latent fires, all of them get -multiple · q99, and only in
             texts whose share of such tokens is above what 95 % of the retain texts reach
             (like Dynamic SAE Guardrails, Muhamed et al. 2025, arXiv:2504.08192)

q99 is the latent's 99th percentile over the rows of the fit on which it fires: an absolute value
means another thing in every SAE. Under a KV cache the share of a text is that of its tokens so far.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from saetools.erase.base import ERASERS
from saetools.erase.latent_stats import active_quantile, latent_rows
from saetools.erase.latents import GatedEraser, Scored, text_scores
from saetools.erase.rows import LabelledRows
from saetools.erase.select import Score, SelectConfig
from saetools.intervene.base import activations_of
from saetools.sae import SAE

__all__ = ["Clamp", "ClampConfig"]


class ClampConfig(SelectConfig):
    """Defaults follow the two papers; strengths are multiples of a latent's 99th percentile."""

    variant: Literal["always", "guarded"] = Field(
        default="always", description="every firing token, or texts that fire more than most"
    )
    multiple: float = Field(
        default=1.0, ge=0, description="clamp to minus so many 99th percentiles of the latent"
    )
    score: Score = Field(default="rate", description="what ranks latents")
    max_retain_rate: float = Field(
        default=0.01, ge=0, le=1, description="fires on less than this share of what is kept"
    )
    gate_percentile: float = Field(
        default=95.0, ge=0, le=100, description="guarded: share of retain texts that never pass, %"
    )


@ERASERS.register("clamp")
class Clamp(GatedEraser):
    """Pushes the chosen latents below zero wherever they fire."""

    Config = ClampConfig
    config: ClampConfig

    @classmethod
    def describe(
        cls, latents: Int[Tensor, " m"], rows: LabelledRows, config: Any, sae: SAE
    ) -> Mapping[str, Tensor]:
        """The value that each latent is set to, and the share of tokens that a text has to pass."""
        z = latent_rows(sae, rows.x, latents)
        level = -config.multiple * active_quantile(z, 0.99)
        if config.variant == "always":
            return {"level": level, "gate": torch.tensor(-math.inf)}
        share = text_scores((z != 0).any(1).float(), rows.place)[rows.text_labels == 0]
        gate = share.quantile(config.gate_percentile / 100)
        return {"level": level, "gate": torch.nextafter(gate, torch.tensor(2.0))}

    @classmethod
    def explain(cls, tensors: Mapping[str, Tensor]) -> Mapping[str, int | float]:
        """The gate, where there is one."""
        gate = float(tensors["gate"])
        return {} if math.isinf(gate) else {"least share of firing tokens in a text": gate}

    def new_activations(self, old: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """The level where a latent fires; guarded: for all latents where any fires."""
        fires = old != 0
        if self.config.variant == "guarded":
            fires = fires.any(-1, keepdim=True).expand_as(old)
        return torch.where(fires, self.tensors["level"], old)

    def scored(self, x: Float[Tensor, "n d_in"]) -> Scored:
        """The clamped rows, and 1 for each row on which a chosen latent fires."""
        assert self.sae is not None
        old, _ = activations_of(self.sae.encode(x), self.tensors["latents"])
        return Scored(self.changed(x), (old != 0).any(-1).float())
