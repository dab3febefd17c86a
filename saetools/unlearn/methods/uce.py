"""UCE: edit linear maps in closed form so that a concept's tokens give what another concept's do.

For every edited map W (rows as inputs), with c_i the inputs at content tokens of the texts to
forget, v* what W gives for the average input of the substitute, and c_j the inputs of retain texts:

    W' = argmin  Σ_i ‖c_i W' - v*‖² + keep_weight · Σ_j ‖c_j (W' - W)‖² + ridge · ‖W' - W‖².

Maps are those that write `mlp_out` (or other sites) of the chosen layers, from the first to the
last, each computed with the earlier ones edited. Source: Gandikota et al. 2024, "Unified Concept
Editing" (arXiv:2308.14761), formula as in card 16 of our methods; it edits the projections of a
diffusion model, where all text passes. Inside an encoder the residual stream passes the edited maps
by, so **the concept is shifted, not gone**: look at probes of the result.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from saetools import progress
from saetools.unlearn.base import METHODS, Fit, Job, Material, Method, MethodConfig
from saetools.unlearn.closed_form import soft_edit
from saetools.unlearn.plan import Plan
from saetools.unlearn.rows import Row, rows_of
from saetools.unlearn.sites import name_of, read_rows, write_rows, writer
from saetools.unlearn.slots import read_slots

__all__ = ["UCE"]


class _Config(MethodConfig):
    """Settings of UCE."""

    layers: tuple[int, ...] | None = Field(default=None, description="blocks to edit; all if None")
    sites: tuple[str, ...] = Field(
        default=("attn_out", "mlp_out"), description="what the edited maps write in each block"
    )
    substitute: str = Field(
        default="", description="text that the concept is to look like; the average if empty"
    )
    erase_weight: float = Field(
        default=1.0, gt=0, description="weight of the mean over forget tokens; that of retain is 1"
    )
    ridge: float = Field(
        default=0.01, gt=0, description="weight of the old map, in mean squares of the inputs"
    )


@METHODS.register("uce")
class UCE(Method):
    """Map a concept's tokens to a substitute's, others to what they were, in closed form."""

    Config = _Config
    kinds = ("text_encoder", "language_model")
    config: _Config

    def plan(self, material: Material) -> Plan:
        """The maps that will be edited."""
        maps = [
            name_of(material.model, writer(material.model, hook)) for hook in self._hooks(material)
        ]
        to = f"'{self.config.substitute}'" if self.config.substitute else "the average retain token"
        return Plan(
            "uce",
            (f"let the tokens of {len(material.forget)} texts give what {to} gives",),
            tuple(f"{name}.weight" for name in maps),
            facts={"retain texts": len(material.retain)},
        )

    def fit(self, job: Job) -> Fit:
        """Edit the maps, first to last."""
        hooks = self._hooks(job.material)
        moved: dict[str, float] = {}
        with progress.task("uce", total=len(hooks), unit="maps") as task:
            for hook in hooks:
                moved[hook] = self._edit(job, writer(job.edited, hook))
                task.advance()
        return Fit(facts={"relative change of the concept's outputs": moved})

    @torch.no_grad()
    def _edit(self, job: Job, linear: nn.Module) -> float:
        config = self.config
        c = self._inputs(job, linear, job.material.forget).double()
        kept = self._inputs(job, linear, job.material.retain).double()
        other = kept.mean(0)
        if config.substitute:
            rows = rows_of(job.edited, [config.substitute])
            other = self._inputs(job, linear, rows).double().mean(0)
        w = read_rows(linear)
        values = (other @ w.double()).expand(len(c), -1)
        size = kept.square().mean()
        eye = torch.eye(len(w), dtype=kept.dtype, device=kept.device)
        keep = kept.T @ kept / len(kept) + config.ridge * size * eye
        scale = (config.erase_weight / len(c)) ** 0.5
        write_rows(linear, soft_edit(w, keep, c * scale, values * scale))
        before, after = c @ w.double(), c @ read_rows(linear).double()
        return float((after - before).norm() / before.norm().clamp_min(1e-12))

    def _inputs(self, job: Job, linear: nn.Module, rows: tuple[Row, ...]) -> Tensor:
        return read_slots(job.edited, rows, inputs={"c": linear}).all["c"]

    def _hooks(self, material: Material) -> tuple[str, ...]:
        layers = self.config.layers or tuple(range(material.model.n_layers))
        return tuple(f"{site}.{layer}" for layer in layers for site in self.config.sites)
