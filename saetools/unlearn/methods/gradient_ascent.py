"""Gradient ascent, and gradient difference, its variant with something to hold on to.

    L = -γ · NLL_forget + α · retain,     retain = NLL_retain or KL(original ‖ edited) on retain
    rows.

α = 0 (the default) is plain ascent, which diverges sooner or later: few steps, and a guard. α > 0
is GradDiff. Source: TOFU (Maini et al. 2024, arXiv:2401.06121), formulas checked against
open-unlearning. The default rate suits billions of weights; a few millions need 1e-4 and more.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from saetools.unlearn.base import METHODS, Fit, Job, Material, Method
from saetools.unlearn.losses import forward, kl_to, mean_nll
from saetools.unlearn.plan import Plan
from saetools.unlearn.rows import Batch
from saetools.unlearn.training import TrainedConfig, plan_of_training, train_weights

__all__ = ["GradientAscent"]


class _Config(TrainedConfig):
    """Settings of gradient ascent."""

    forget_weight: float = Field(default=1.0, gt=0, description="gamma, of the forget loss")
    retain_weight: float = Field(
        default=0.0, ge=0, description="alpha, of the retain loss; 0 is plain ascent, 1 GradDiff"
    )
    retain_loss: Literal["nll", "kl"] = Field(
        default="nll", description="likelihood of retain rows, or distance to the original there"
    )


@METHODS.register("gradient_ascent")
class GradientAscent(Method):
    """Ascend the loss of what is to be forgotten, with or without a loss on what is to stay."""

    Config = _Config
    config: _Config

    def plan(self, material: Material) -> Plan:
        """Which weights are trained, and on what."""
        what = f"ascend the loss on forget rows, weight {self.config.forget_weight:g}"
        keep = (
            f"hold retain rows by {self.config.retain_loss}, weight {self.config.retain_weight:g}"
        )
        steps = [what, keep] if self.config.retain_weight else [what, "nothing holds retain rows"]
        return plan_of_training(material, self.config, method="gradient_ascent", steps=steps)

    def fit(self, job: Job) -> Fit:
        """Train."""
        config, original = self.config, job.material.model

        def loss_of(forget: Batch, retain: Batch) -> Mapping[str, Tensor]:
            gone = mean_nll(forward(job.edited, forget), forget)
            total = -config.forget_weight * gone
            if config.retain_weight == 0:
                return {"total": total, "forget_nll": gone}
            logits = forward(job.edited, retain)
            if config.retain_loss == "nll":
                kept = mean_nll(logits, retain)
            else:
                with torch.no_grad():
                    reference = forward(original, retain)
                kept = kl_to(reference, logits, retain)
            total = total + config.retain_weight * kept
            return {"total": total, "forget_nll": gone, "retain": kept}

        return Fit(train_weights(job, loss_of, config))
