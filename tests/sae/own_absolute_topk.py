"""An architecture as somebody outside the package writes it: a loss, and autograd does the rest."""

from typing import Literal

import torch
from pydantic import Field

from saetools.sae import ARCHS, SAE, Loss, Objective, SAEConfig
from saetools.types import SparseLatents


class AbsoluteTopKConfig(SAEConfig):
    """Fields of this architecture."""

    type: Literal["absolute_topk"] = "absolute_topk"
    n_active: int = Field(default=4, ge=1)


@ARCHS.register("absolute_topk")
class AbsoluteTopK(SAE):
    """The largest |pre-activations| of each token, in size."""

    Config = AbsoluteTopKConfig

    def encode(self, x):
        top = self.pre_acts(x).abs().topk(self.config.n_active, dim=1)
        return SparseLatents(top.values, top.indices, self.config.n_latents)

    def loss(self, x, objective: Objective, *, target=None):
        latents = self.encode(x)
        error = (x if target is None else target) - self.decode(latents)
        fvu = error.square().sum() / (objective.variance * max(len(x), 1))
        counts = torch.zeros(self.config.n_latents).index_add_(
            0, latents.indices.flatten(), (latents.values > 1e-3).flatten().float()
        )
        active = latents.values[latents.active]
        lowest = active.min() if len(active) else torch.tensor(torch.inf)
        return Loss(fvu, fvu.detach(), fvu.new_zeros(()), counts, latents.active.sum(), lowest)
