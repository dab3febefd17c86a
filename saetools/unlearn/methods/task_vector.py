"""Task vector: learn the forget rows even better on the side, then walk the other way.

    θ' = θ - scale · (θ_ft - θ),

θ_ft from fine-tuning θ on the forget rows. Source: Ilharco et al. 2023, arXiv:2212.04089, listed as
a baseline of our card 15. It has no retain term: the guard is what protects.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from saetools.unlearn.base import METHODS, Fit, Job, Material, Method
from saetools.unlearn.losses import forward, mean_nll
from saetools.unlearn.plan import Plan
from saetools.unlearn.rows import Batch
from saetools.unlearn.sites import block_weights
from saetools.unlearn.training import TrainedConfig, plan_of_training, train_weights

__all__ = ["TaskVector"]


class _Config(TrainedConfig):
    """Settings of the task vector."""

    scale: float = Field(default=1.0, gt=0, description="how far to walk, in task vectors")


@METHODS.register("task_vector")
class TaskVector(Method):
    """Subtract what fine-tuning on the forget rows adds."""

    Config = _Config
    config: _Config

    def plan(self, material: Material) -> Plan:
        """Which weights are trained, and how far they walk back."""
        steps = [
            "fine-tune a copy on the forget rows",
            f"subtract {self.config.scale:g} times what that changed; nothing holds retain rows",
        ]
        return plan_of_training(material, self.config, method="task_vector", steps=steps)

    def fit(self, job: Job) -> Fit:
        """Train, then walk the other way."""
        weights = block_weights(job.edited, self.config.layers)
        before = {name: weight.detach().clone() for name, weight in weights.items()}

        def loss_of(forget: Batch, _retain: Batch) -> Mapping[str, Tensor]:
            return {"total": mean_nll(forward(job.edited, forget), forget)}

        losses = train_weights(job, loss_of, self.config)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(before[name] - self.config.scale * (weight - before[name]))
        return Fit(losses)
