"""An architecture with one fault at a time, to see that the conformance suite names it."""

from typing import Literal

import torch

from saetools.sae import ARCHS
from saetools.sae.archs.topk import TopK, TopKConfig
from saetools.types import SparseLatents

Fault = Literal["writes", "neighbours", "negative", "gradient", "unfolded", "norms", "dense"]


class BrokenConfig(TopKConfig):
    """A TopK SAE and what is wrong with it."""

    type: Literal["broken"] = "broken"
    fault: Fault


@ARCHS.register("broken")
class Broken(TopK):
    """TopK, but for its fault."""

    Config = BrokenConfig

    def __init__(self, config, *, meta=None, seed=0):
        super().__init__(config, meta=meta, seed=seed)
        if config.fault == "norms":
            self.W_dec.data.mul_(2)

    def encode(self, x):
        latents = super().encode(x)
        fault, values = self.config.fault, latents.values
        if fault == "dense":
            return latents.dense()
        if fault == "writes":
            self.b_enc.data += 1e-3
        if fault == "neighbours" and len(x) > 1:
            values = values + values.mean()
        if fault == "negative":
            values = -values
        return SparseLatents(values, latents.indices, latents.n_latents)

    def gradients(self, x, objective, *, target=None, scratch=None):
        loss, found = super().gradients(x, objective, target=target, scratch=scratch)
        if self.config.fault == "gradient" and not torch.is_grad_enabled():
            return loss, found
        if self.config.fault == "gradient":
            found = {**found, "W_dec": found["W_dec"].scaled(2.0)}
        return loss, found

    def folded(self, inputs, outputs=None):
        return self if self.config.fault == "unfolded" else super().folded(inputs, outputs)
