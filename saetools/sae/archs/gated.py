"""Gated: one map says which latents are on, another how much (2404.16014).

    π = (x − b_dec) · W_enc + b_enc
    z = 1[π > 0] · ReLU((x − b_dec) · (W_enc ∘ exp(r_mag)) + b_mag)
    loss = (‖x − x_hat(z)‖² + ‖x − x_hat'(ReLU(π))‖²) / V + λ Σ ReLU(π_j) ‖w_j‖ / √V

(Rajamanoharan et al. 2024). x_hat' decodes with W_dec and b_dec of which no gradient is taken; its
term trains the gate, which the step function cuts off from the first term. Both maps share one
product, as a magnitude before its ReLU is exp(r_mag) · (π − b_enc) + b_mag. L1 falls on the gate
alone, so latents do not shrink.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from saetools.sae.archs._dense import Batch, Part
from saetools.sae.archs._l1 import L1, L1Config
from saetools.sae.base import ARCHS
from saetools.sae.config import SAEConfig
from saetools.sae.objective import Objective
from saetools.sae.selection import Encoder, select_above
from saetools.types import SparseLatents

__all__ = ["Gated", "GatedConfig"]


class GatedConfig(L1Config):
    """Fields of a gated SAE."""

    type: Literal["gated"] = Field(default="gated", description="this architecture")


@ARCHS.register("gated")
class Gated(L1):
    """Sparse autoencoder whose gate and magnitude are learned apart."""

    Config = GatedConfig
    config: GatedConfig

    def __init__(
        self, config: SAEConfig, *, meta: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__(config, meta=meta, seed=seed)
        self.r_mag = nn.Parameter(torch.zeros(config.n_latents))
        self.b_mag = nn.Parameter(torch.zeros(config.n_latents))

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseLatents:
        """The magnitude of every latent whose gate is open, where it is positive."""
        self._check_width(x)
        encoder = Encoder(self.W_enc_rows, self.b_enc)
        opened = select_above(x - self.b_dec, encoder, threshold=0.0)
        size = self._magnitude(opened.values, opened.latents)
        return opened._replace(values=size).padded(self.config.n_latents)

    def _magnitude(self, gate: Tensor, latents: Tensor | slice) -> Tensor:
        own = self.r_mag[latents].exp() * (gate - self.b_enc[latents])
        return (own + self.b_mag[latents]).relu()

    def _part(self, x: Tensor, target: Tensor, objective: Objective, batch: Batch) -> Part:
        gate = self.pre_acts(x)
        opened = gate.relu()
        latents = self._magnitude(gate, slice(None)) * (gate > 0)
        error = (target - torch.addmm(self.b_dec, latents, self.W_dec)).square().sum()
        frozen = torch.addmm(self.b_dec.detach(), opened, self.W_dec.detach())
        of_gate = (target - frozen).square().sum()
        size = (opened @ self.W_dec.norm(dim=1)).sum()
        per_error = 1 / (objective.variance * max(batch.n_tokens, 1))
        total = (error + of_gate) * per_error + size * self._price(objective, batch)
        return Part(total, error, latents.detach())

    def _scaled_names(self) -> tuple[str, ...]:
        return (*super()._scaled_names(), "b_mag")
