"""TopK: the k largest pre-activations of each token, ReLU after (Gao et al. 2024, 2406.04093)."""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from saetools.sae.archs._k_sparse import KSparse, KSparseConfig
from saetools.sae.base import ARCHS
from saetools.sae.objective import Objective
from saetools.sae.selection import Encoder, Selection, flat, select_topk
from saetools.types import SparseLatents

__all__ = ["TopK", "TopKConfig"]


class TopKConfig(KSparseConfig):
    """Fields of a TopK SAE."""

    type: Literal["topk"] = Field(default="topk", description="this architecture")


@ARCHS.register("topk")
class TopK(KSparse):
    """Sparse autoencoder with at most k active latents on every token."""

    Config = TopKConfig

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseLatents:
        """The k largest positive pre-activations of each token."""
        self._check_width(x)
        encoder = Encoder(self.W_enc_rows, self.b_enc)
        return select_topk(x - self.b_dec, encoder, k=self.config.k)

    def _select(self, centred: Tensor, encoder: Encoder, objective: Objective) -> Selection:
        return flat(select_topk(centred, encoder, k=objective.k or self.config.k))
