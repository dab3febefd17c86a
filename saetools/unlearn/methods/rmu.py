"""RMU: push the activations of forget rows onto a random direction, keep those of retain rows.

    L = E_forget ‖h_θ - c·u‖² / d + α · E_retain ‖h_θ - h_θ0‖² / d      at the output of block ℓ,

u drawn uniformly from [0, 1)^d and brought to length 1, c = `coefficient` times the mean norm of
the retain activations there (the paper gives c as a number for one model; a multiple carries over).
Trained are the MLPs' last maps of blocks ℓ-2 to ℓ. Source: Li et al. 2024 (WMDP),
arXiv:2403.03218; settings as its repository and open-unlearning have them.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from saetools.repro import generator
from saetools.unlearn.base import METHODS, Fit, Job, Material, Method
from saetools.unlearn.losses import forward, squared_difference
from saetools.unlearn.plan import Plan
from saetools.unlearn.rows import Batch, make_batch
from saetools.unlearn.sites import block_weights, name_of, plain_sites, watching, writer
from saetools.unlearn.training import TrainedConfig, train_weights

__all__ = ["RMU"]

_ROWS = 64  # retain rows that tell the norm


class _Config(TrainedConfig):
    """Settings of RMU."""

    layer: int | None = Field(
        default=None,
        ge=0,
        description="layer whose output is steered; a third of the depth if None",
    )
    coefficient: float = Field(
        default=4.0, gt=0, description="c, in multiples of the mean norm of retain activations"
    )
    retain_weight: float = Field(default=100.0, ge=0, description="alpha, of the retain loss")
    all_weights: bool = Field(
        default=False, description="train the whole blocks, not the MLPs' last maps only"
    )


@METHODS.register("rmu")
class RMU(Method):
    """Misdirect what the model makes of forget rows inside, at one layer."""

    Config = _Config
    config: _Config

    def plan(self, material: Material) -> Plan:
        """The layer, and which weights are trained."""
        layer = self._layer(material)
        steps = (
            f"push forget rows at resid_post.{layer} to {self.config.coefficient:g} times the mean "
            "norm along a random direction",
            f"hold retain rows there, weight {self.config.retain_weight:g}",
        )
        facts = {"forget rows": len(material.forget), "steps": self.config.n_steps, "layer": layer}
        return Plan("rmu", steps, tuple(self._weights(material)), facts=facts)

    def fit(self, job: Job) -> Fit:
        """Train."""
        config, original = self.config, job.material.model
        hook = f"resid_post.{self._layer(job.material)}"
        target = _target(job.material, hook, config.coefficient)
        sites = plain_sites(job.edited, [hook])

        def loss_of(forget: Batch, retain: Batch) -> Mapping[str, Tensor]:
            with watching(sites) as seen:
                forward(job.edited, forget)
                rows = seen[hook][forget.tokens.content].float()
                gone = (rows - target).square().mean()
                forward(job.edited, retain)
                now = seen[hook]
            before = original.activations(retain.tokens, [hook])[hook]
            kept = squared_difference(now, before, retain)
            total = gone + config.retain_weight * kept
            return {"total": total, "forget": gone, "retain": kept}

        named = dict(job.edited.hf.named_parameters())
        weights: list[nn.Parameter] = [named[name] for name in job.plan.weights]
        return Fit(train_weights(job, loss_of, config, weights=weights), {"hook_name": hook})

    def _layer(self, material: Material) -> int:
        if self.config.layer is not None:
            return self.config.layer
        return max(0, material.model.n_layers // 3)

    def _weights(self, material: Material) -> list[str]:
        last = self._layer(material)
        layers = self.config.layers or tuple(range(max(0, last - 2), last + 1))
        inside = block_weights(material.model, layers)
        if self.config.all_weights:
            return list(inside)
        maps = (writer(material.model, f"mlp_out.{layer}") for layer in layers)
        return [f"{name_of(material.model, one)}.weight" for one in maps]


@torch.no_grad()
def _target(material: Material, hook: str, coefficient: float) -> Tensor:
    """c·u, (d_model,)."""
    model = material.model
    batch = make_batch(model, material.retain[:_ROWS])
    rows = model.activations(batch.tokens, [hook])[hook][batch.tokens.content].float()
    u = torch.rand(rows.shape[1], generator=generator(material.seed, "rmu")).to(rows.device)
    size: Tensor = rows.norm(dim=1).mean()
    target: Tensor = coefficient * size * u / u.norm()
    return target
