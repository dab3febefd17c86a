"""BatchTopK: the k·n largest pre-activations of a batch, a threshold at inference (2412.06410)."""

from typing import Literal

from pydantic import Field

from saetools.sae.archs._k_sparse import KSparseConfig
from saetools.sae.archs._selected import Rule, Selected
from saetools.sae.base import ARCHS

__all__ = ["BatchTopK", "BatchTopKConfig"]


class BatchTopKConfig(KSparseConfig):
    """Fields of a BatchTopK SAE."""

    type: Literal["batch_topk"] = Field(default="batch_topk", description="this architecture")


@ARCHS.register("batch_topk")
class BatchTopK(Selected):
    """Sparse autoencoder with k active latents a token on average."""

    Config = BatchTopKConfig
    config: BatchTopKConfig

    @property
    def rule(self) -> Rule:
        """By batch."""
        return "batch_topk"
