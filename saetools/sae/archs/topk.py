"""TopK: the k largest pre-activations of each token, ReLU after (Gao et al. 2024, 2406.04093).

With `multi` the loss is L(k) + L(4k)/8, where L(m) uses the m largest pre-activations; the code is
then of use at other k as well. The SAE is read at k.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from saetools.sae.archs._k_sparse import KSparseConfig
from saetools.sae.archs._ranks import levels_by_rank
from saetools.sae.archs._selected import Rule, Selected
from saetools.sae.base import ARCHS
from saetools.sae.nested import Levels
from saetools.sae.objective import Objective
from saetools.sae.selection import Encoder, Selection, flat, select_topk

__all__ = ["TopK", "TopKConfig"]

_WIDER = 4
_WIDER_WEIGHT = 1 / 8


class TopKConfig(KSparseConfig):
    """Fields of a TopK SAE."""

    type: Literal["topk"] = Field(default="topk", description="this architecture")
    multi: bool = Field(
        default=False,
        description="Multi-TopK: an eighth of the error with 4k latents is added to the loss",
    )


@ARCHS.register("topk")
class TopK(Selected):
    """Sparse autoencoder with at most k active latents on every token."""

    Config = TopKConfig
    config: TopKConfig

    @property
    def rule(self) -> Rule:
        """By token."""
        return "topk"

    @property
    def by_latent(self) -> tuple[str, ...]:
        """As all of the family; with `multi` the rank of a latent depends on all the others."""
        return () if self.config.multi else super().by_latent

    def levels(self, chosen: Selection, objective: Objective) -> Levels:
        """One level, or with `multi` the k largest of each token and then the rest of 4k."""
        if not self.config.multi:
            return super().levels(chosen, objective)
        k = objective.k or self.config.k
        return levels_by_rank(chosen, (k, _WIDER * k), (1.0, _WIDER_WEIGHT), own=0)

    def _select(self, centred: Tensor, encoder: Encoder, objective: Objective) -> Selection:
        if not self.config.multi:
            return super()._select(centred, encoder, objective)
        k = objective.k or self.config.k
        return flat(select_topk(centred, encoder, k=_WIDER * k))
