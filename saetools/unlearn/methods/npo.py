"""NPO: negative preference optimisation, ascent that fades out where a row is forgotten.

    L = (2/β) · E[log(1 + (p_θ / p_θ0)^β)] + α · NLL_retain,

p the probability of a whole row's counted tokens (summed, not averaged, log-likelihoods). β -> 0 is
gradient ascent. `reference: false` is SimNPO: -(2/β) · E[log σ(β · (NLL/T - δ))] without a
reference model. Source: Zhang et al. 2024, arXiv:2404.05868; formulas checked against
open-unlearning.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from saetools.unlearn.base import METHODS, Fit, Job, Material, Method
from saetools.unlearn.losses import forward, mean_nll, row_nll
from saetools.unlearn.plan import Plan
from saetools.unlearn.rows import Batch
from saetools.unlearn.training import TrainedConfig, plan_of_training, train_weights

__all__ = ["NPO", "npo_loss"]


class _Config(TrainedConfig):
    """Settings of NPO."""

    beta: float = Field(default=0.1, gt=0, description="β: how soon a forgotten row is let go")
    retain_weight: float = Field(default=1.0, ge=0, description="alpha, of the loss of retain rows")
    reference: bool = Field(default=True, description="compare with the original; False is SimNPO")
    delta: float = Field(default=0.0, ge=0, description="delta of SimNPO, nats a token")


def npo_loss(nll: Tensor, reference: Tensor, *, beta: float) -> Tensor:
    """(2/β) · E[log(1 + exp(β · (reference - nll)))] from summed NLLs (batch,), in nats."""
    return (-logsigmoid(beta * (nll - reference))).mean() * 2 / beta


@METHODS.register("npo")
class NPO(Method):
    """Lower the odds of forget rows against the original, and hold retain rows."""

    Config = _Config
    config: _Config

    def plan(self, material: Material) -> Plan:
        """Which weights are trained, and on what."""
        against = "those of the original" if self.config.reference else "a fixed level (SimNPO)"
        steps = [
            f"lower the odds of forget rows against {against}, beta {self.config.beta:g}",
            f"hold retain rows by nll, weight {self.config.retain_weight:g}",
        ]
        return plan_of_training(material, self.config, method="npo", steps=steps)

    def fit(self, job: Job) -> Fit:
        """Train."""
        config, original = self.config, job.material.model

        def loss_of(forget: Batch, retain: Batch) -> Mapping[str, Tensor]:
            nll = row_nll(forward(job.edited, forget), forget)
            if config.reference:
                with torch.no_grad():
                    before = row_nll(forward(original, forget), forget)
            else:
                nll = nll / forget.counted[:, 1:].sum(1).clamp_min(1)
                before = torch.full_like(nll, config.delta)
            gone = npo_loss(nll, before, beta=config.beta)
            kept = mean_nll(forward(job.edited, retain), retain)
            total = gone + config.retain_weight * kept
            return {"total": total, "forget": gone, "retain": kept}

        return Fit(train_weights(job, loss_of, config))
