"""Project: fold linear erasers into the weights, where that is exact.

An eraser x -> x Aᵀ + b of `mlp_out.<layer>` or `attn_out.<layer>` becomes part of the map that
writes the site (`folding`). Erasers of the residual stream are refused: no weights do the same.
What differs from a hook: the folded eraser also acts on special tokens.

Without erasers the method fits its own at every chosen site, a projection onto what entities have
in common: with d_e = the mean at the last name token of entity e less the mean over retain
entities, and Q an orthonormal basis of the `max_rank` strongest directions of the d_e,

    A = I - Q Qᵀ,   b = Q Qᵀ · (mean over retain entities).

It is orthogonal and no LEACE: guardedness is not promised. A LEACE eraser of `saetools.erase` can
be handed over as `erasers={hook: (A, b)}`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from saetools.errors import ConfigError
from saetools.unlearn.base import METHODS, Fit, Job, Material, Method, MethodConfig
from saetools.unlearn.folding import fold_affine
from saetools.unlearn.plan import Plan
from saetools.unlearn.sites import name_of, writer
from saetools.unlearn.slots import read_slots

__all__ = ["Project"]


class _Config(MethodConfig):
    """Settings of the projection."""

    hooks: tuple[str, ...] | None = Field(
        default=None, description="sites to erase at; every mlp_out and attn_out if None"
    )
    max_rank: int = Field(default=16, ge=1, description="directions that are erased at a site")
    erasers: Mapping[str, Any] | None = Field(
        default=None, description="by hook, an affine Eraser or (A, b): x becomes x A^T + b"
    )


@METHODS.register("project")
class Project(Method):
    """Fold linear erasers into the maps that write their sites."""

    Config = _Config
    kinds = ("language_model", "text_encoder")
    config: _Config

    def plan(self, material: Material) -> Plan:
        """The sites, and the maps that write them.

        Raises:
            ConfigError: a site is written by no linear map.
        """
        hooks = self._hooks(material)
        maps = [name_of(material.model, writer(material.model, hook)) for hook in hooks]
        origin = "given" if self.config.erasers else f"of rank {self.config.max_rank} at most"
        return Plan(
            "project",
            (f"fold an eraser ({origin}) into the map that writes each of {len(hooks)} sites",),
            tuple(f"{name}.weight" for name in maps),
            facts={"hooks": list(hooks)},
        )

    def fit(self, job: Job) -> Fit:
        """Fold site by site; later sites are fitted with the earlier ones folded."""
        ranks: dict[str, int] = {}
        for hook in self._hooks(job.material):
            a, b = self._eraser(job, hook)
            fold_affine(job.edited, hook, a, b)
            ranks[hook] = len(a) - int(torch.linalg.matrix_rank(a.double()))
        return Fit(facts={"directions erased": ranks})

    def _eraser(self, job: Job, hook: str) -> tuple[Tensor, Tensor]:
        if self.config.erasers is not None:
            return _given(self.config.erasers[hook], hook)
        forget = read_slots(job.edited, job.material.forget, hooks=[hook])
        retain = read_slots(job.edited, job.material.retain, hooks=[hook])
        mean = retain.at[hook].double().mean(0)
        return _projection(forget.mean_by_entity(hook).double() - mean, mean, self.config.max_rank)

    def _hooks(self, material: Material) -> tuple[str, ...]:
        model = material.model
        if self.config.erasers is not None:
            if not self.config.erasers:
                raise ConfigError("project was given an empty set of erasers; give one, or None")
            return tuple(self.config.erasers)
        return self.config.hooks or tuple(
            name for name in model.hook_names() if "mlp_out" in name or "attn_out" in name
        )


def _given(eraser: Any, hook: str) -> tuple[Tensor, Tensor]:
    """A and b of a pair, or of an `Eraser`, which has them as `affine`."""
    pair = getattr(eraser, "affine", eraser)
    if pair is None:
        raise ConfigError(
            f"the eraser of {hook} is not affine, so no weights do what it does; keep it as a "
            "hook, or fit a linear one (leace, rlace, mean_projection)"
        )
    a, b = pair
    return torch.as_tensor(a), torch.as_tensor(b)


def _projection(directions: Tensor, mean: Tensor, max_rank: int) -> tuple[Tensor, Tensor]:
    """A and b that set the directions (m, d) to what they are in `mean`, (d,)."""
    _, size, vh = torch.linalg.svd(directions, full_matrices=False)
    rank = min(max_rank, int((size > size.max() * 1e-6).sum()))
    onto = vh[:rank].T @ vh[:rank]
    return torch.eye(len(mean), dtype=mean.dtype, device=mean.device) - onto, onto @ mean
