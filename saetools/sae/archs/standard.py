"""Standard: ReLU and an L1 term weighted by decoder norms (Bricken et al. 2023; April 2024 update).

    z = ReLU((x − b_dec) · W_enc + b_enc)      loss = ‖x − x_hat‖² / V + λ Σ z_j ‖w_j‖ / √V

V is the variance of the data, so λ means the same on any data. Decoder rows are free in norm. L1
shrinks latents: x_hat is shorter than x.

With `widths` every prefix of the dictionary reconstructs on its own and pays for its own latents
(Matryoshka over ReLU, 2503.17547): errors and L1 terms are means over prefixes, so that a late
latent, which few prefixes hold, is cheaper than an early one.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from saetools.sae.archs._dense import Batch, Part
from saetools.sae.archs._l1 import L1, L1Config
from saetools.sae.base import ARCHS
from saetools.sae.config import SAEConfig
from saetools.sae.objective import Objective
from saetools.sae.selection import Encoder, select_above
from saetools.types import SparseLatents

__all__ = ["Standard", "StandardConfig"]

_START_NORM = 0.1  # of decoder and encoder rows


class StandardConfig(L1Config):
    """Fields of a standard SAE."""

    type: Literal["standard"] = Field(default="standard", description="this architecture")
    widths: tuple[int, ...] = Field(
        default=(),
        description="prefix sizes that reconstruct on their own, the last n_latents; empty: only "
        "the whole",
    )

    @model_validator(mode="after")
    def _widths_nest(self) -> "StandardConfig":
        rising = all(a < b for a, b in pairwise(self.widths))
        if self.widths and (not rising or self.widths[0] < 1 or self.widths[-1] != self.n_latents):
            raise ValueError(
                f"widths are {list(self.widths)}; they must be positive, strictly increasing and "
                f"end at n_latents ({self.n_latents})"
            )
        return self


@ARCHS.register("standard")
class Standard(L1):
    """Sparse autoencoder of ReLU latents under an L1 term."""

    Config = StandardConfig
    config: StandardConfig
    unit_norm_decoder: ClassVar[bool] = False

    def __init__(
        self, config: SAEConfig, *, meta: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__(config, meta=meta, seed=seed)
        self.W_dec.data.mul_(_START_NORM)
        self.W_enc_rows.data.mul_(_START_NORM)

    @property
    def widths(self) -> tuple[int, ...]:
        """Prefix sizes that reconstruct on their own; the last is n_latents."""
        return self.config.widths or super().widths

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseLatents:
        """Every positive pre-activation."""
        self._check_width(x)
        encoder = Encoder(self.W_enc_rows, self.b_enc)
        chosen = select_above(x - self.b_dec, encoder, threshold=0.0)
        return chosen.padded(self.config.n_latents)

    def _part(self, x: Tensor, target: Tensor, objective: Objective, batch: Batch) -> Part:
        latents = self.pre_acts(x).relu()
        norms = self.W_dec.norm(dim=1)
        left, start = target - self.b_dec, 0
        error, total, size = left.new_zeros(()), left.new_zeros(()), left.new_zeros(())
        price = self._price(objective, batch)
        per_error = 1 / (objective.variance * max(batch.n_tokens, 1))
        for stop in self.widths:
            block = latents[:, start:stop]
            left = left - block @ self.W_dec[start:stop]
            size = size + (block @ norms[start:stop]).sum()
            error, start = left.square().sum(), stop
            total = total + (error * per_error + size * price) / len(self.widths)
        return Part(total, error, latents.detach())
