"""ROCR-like: redirect an entity to the average of its neighbours, by a closed-form edit of MLPs.

At chosen layers the MLP's last map is edited so that the key of each entity to forget, k* = mean
hidden activation at the last token of its name, gives v*, and so that all keys of retain rows give
what they gave (`closed_form.exact_edit` with C = E[k kᵀ] over them). v* is

    the mean MLP output at the same slot over retain entities        (`match: output`), or
    W k* + (mean block output there - the entity's own)              (`match: residual`),

the latter so that the block's *output*, what came past the MLP included, is the average one. Later
layers are computed with the earlier ones edited.

Source: Ye, Zhang, Wu 2025, "LLM Unlearning Should Be Form-Independent" (arXiv:2506.07795), of
which only the abstract was verified: this is our reconstruction with ROME's formula, and
`match: residual` is our own.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from saetools import progress
from saetools.unlearn.base import METHODS, Fit, Job, Material, Method, MethodConfig
from saetools.unlearn.closed_form import exact_edit, keep_matrix
from saetools.unlearn.plan import Plan
from saetools.unlearn.sites import name_of, read_rows, write_rows, writer
from saetools.unlearn.slots import read_slots

__all__ = ["Rocr"]


class _Config(MethodConfig):
    """Settings of ROCR."""

    layers: tuple[int, ...] | None = Field(
        default=None, description="blocks whose MLPs are edited; the first half if None"
    )
    match: Literal["output", "residual"] = Field(
        default="output", description="what becomes the average: the MLP's output or the block's"
    )
    ridge: float = Field(
        default=0.1, gt=0, description="added to the keys' covariance, in its mean eigenvalue"
    )
    strength: float = Field(default=1.0, gt=0, description="share of the way to v*; 1 is there")


@METHODS.register("rocr")
class Rocr(Method):
    """Give an entity the representation of an average neighbour, in closed form."""

    Config = _Config
    config: _Config

    def plan(self, material: Material) -> Plan:
        """The layers, and how many entities are redirected."""
        layers = self._layers(material)
        maps = [name_of(material.model, writer(material.model, f"mlp_out.{one}")) for one in layers]
        entities = list(dict.fromkeys(row.entity for row in material.forget))
        return Plan(
            "rocr",
            (
                f"redirect {len(entities)} entities to the average of "
                f"{len({row.entity for row in material.retain})} others at the last name token",
                f"so that the {'MLP' if self.config.match == 'output' else 'block'} there puts out "
                "what it does for the average",
            ),
            tuple(f"{name}.weight" for name in maps),
            facts={"layers": list(layers), "entities": len(entities)},
        )

    def fit(self, job: Job) -> Fit:
        """Edit the maps, layer by layer."""
        moved: dict[str, float] = {}
        layers = self._layers(job.material)
        with progress.task("rocr", total=len(layers), unit="layers") as task:
            for layer in layers:
                moved[f"mlp_out.{layer}"] = self._edit(job, layer)
                task.advance()
        return Fit(facts={"relative change of keys' outputs": moved})

    @torch.no_grad()
    def _edit(self, job: Job, layer: int) -> float:
        """Edit one map; return how far the keys' outputs moved, by their size."""
        config, material = self.config, job.material
        out, block = f"mlp_out.{layer}", f"resid_post.{layer}"
        linear = writer(job.edited, out)
        inputs = {"keys": linear}
        forget = read_slots(job.edited, material.forget, hooks=[block], inputs=inputs)
        retain = read_slots(material.model, material.retain, hooks=[block, out])
        kept = read_slots(job.edited, material.retain, inputs=inputs)
        w, keys = read_rows(linear), forget.mean_by_entity("keys")
        now = keys @ w
        bias: Tensor | None = getattr(linear, "bias", None)
        outputs = retain.at[out] - (0.0 if bias is None else bias.float())
        goal = self._goal(now, forget.mean_by_entity(block), outputs, retain.at[block])
        values = now + config.strength * (goal - now)
        write_rows(
            linear, exact_edit(w, keep_matrix(kept.all["keys"], ridge=config.ridge), keys, values)
        )
        return float((values - now).norm() / now.norm().clamp_min(1e-12))

    def _goal(self, now: Tensor, own: Tensor, outputs: Tensor, blocks: Tensor) -> Tensor:
        if self.config.match == "output":
            return outputs.mean(0).expand_as(now)
        return now + blocks.mean(0) - own

    def _layers(self, material: Material) -> tuple[int, ...]:
        if self.config.layers is not None:
            return self.config.layers
        return tuple(range(max(1, material.model.n_layers // 2)))
