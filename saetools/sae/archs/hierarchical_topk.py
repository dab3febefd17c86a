"""HierarchicalTopK: one SAE for every number of active latents up to k (EMNLP 2025, 2505.24473).

The latents of a token are ranked by value; each of a series of prefixes of that ranking must
reconstruct the token, and the loss is the mean over them. `sae.encode(x).top(j)` then reads at any
j up to k.
"""

from typing import Literal

from pydantic import Field

from saetools.sae.archs._k_sparse import KSparseConfig
from saetools.sae.archs._ranks import levels_by_rank
from saetools.sae.archs._selected import Rule, Selected
from saetools.sae.base import ARCHS
from saetools.sae.nested import Levels
from saetools.sae.objective import Objective
from saetools.sae.selection import Selection

__all__ = ["HierarchicalTopK", "HierarchicalTopKConfig"]


class HierarchicalTopKConfig(KSparseConfig):
    """Fields of a HierarchicalTopK SAE."""

    type: Literal["hierarchical_topk"] = Field(
        default="hierarchical_topk", description="this architecture"
    )
    ranks: Literal["powers", "all"] = Field(
        default="powers",
        description="prefixes of the ranking in the loss; powers: 1, 2, 4, … and k; all: 1 to k, "
        "which takes k · d_in values a token",
    )


@ARCHS.register("hierarchical_topk")
class HierarchicalTopK(Selected):
    """Sparse autoencoder whose j strongest latents reconstruct on their own, for every j ≤ k."""

    Config = HierarchicalTopKConfig
    config: HierarchicalTopKConfig

    @property
    def rule(self) -> Rule:
        """By token."""
        return "topk"

    @property
    def by_latent(self) -> tuple[str, ...]:
        """None: the rank of a latent depends on all the others of its token."""
        return ()

    def levels(self, chosen: Selection, objective: Objective) -> Levels:
        """A level a prefix of the ranking; the loss is their mean."""
        sizes = self._sizes(objective.k or self.config.k)
        return levels_by_rank(chosen, sizes, (1 / len(sizes),) * len(sizes))

    def _sizes(self, k: int) -> tuple[int, ...]:
        if self.config.ranks == "all":
            return tuple(range(1, k + 1))
        return (*(2**power for power in range((k - 1).bit_length())), k)
