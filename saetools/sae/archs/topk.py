"""TopK: the k largest pre-activations of each token, ReLU after (Gao et al. 2024, 2406.04093)."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from saetools.sae.archs._k_sparse import KSparseConfig
from saetools.sae.base import ARCHS, SAE
from saetools.sae.selection import Selection, count_bounds, select_topk
from saetools.types import SparseLatents

__all__ = ["TopK", "TopKConfig"]


class TopKConfig(KSparseConfig):
    """Fields of a TopK SAE."""

    type: Literal["topk"] = Field(default="topk", description="this architecture")


@ARCHS.register("topk")
class TopK(SAE):
    """Sparse autoencoder with at most k active latents on every token."""

    Config = TopKConfig
    config: TopKConfig

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseLatents:
        """The k largest positive pre-activations of each token."""
        self._check_width(x)
        return select_topk(x - self.b_dec, self.W_enc_rows, self.b_enc, k=self.config.k)

    @torch.no_grad()
    def select(self, x: Float[Tensor, "n d_in"], *, hint: float | None = None) -> Selection:  # noqa: ARG002
        """The same choice as `encode`, as a flat list; there is nothing to guess here."""
        latents = self.encode(x)
        on = latents.active
        rows = on.nonzero()[:, 0]
        return Selection(
            latents.values[on], rows, latents.indices[on], count_bounds(rows, len(latents))
        )
