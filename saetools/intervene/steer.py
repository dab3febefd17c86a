"""Steering: add the decoder directions of chosen latents to the activation.

    x' = x + Σ strength · W_dec[latent]

at every content token, the generated ones included, with and without KV cache. The SAE is not run,
so its reconstruction error never enters.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.base import (
    PerLatent,
    check_latents,
    edit_content_rows,
    find_site,
    per_latent,
)
from saetools.intervene.probe import Probe
from saetools.models.base import SubjectModel
from saetools.sae import SAE

__all__ = ["StrengthUnit", "steer"]

StrengthUnit = Literal["absolute", "residual_norm", "max_activation"]


@contextmanager
def steer(
    model: SubjectModel,
    sae: SAE,
    strengths: Mapping[int, float],
    *,
    hook_name: str | None = None,
    unit: StrengthUnit = "absolute",
    max_activations: PerLatent | None = None,
    strict: bool = True,
) -> Iterator[Probe]:
    """Steer `model` along latents of `sae` while the block lasts.

    Args:
        strengths: strength of each latent; negative steers away, zero changes not a bit.
        hook_name: where; by default the hook that the SAE was trained at.
        unit: what a strength of 1 means. "absolute": one unit of activation (decoder rows have unit
            length, so it is also the length of the change). "residual_norm": the length of the
            token's own activation. "max_activation": the largest activation that the latent has
            on its corpus, from `max_activations`.
        max_activations: one number a latent of the dictionary, e.g. `index.max_act`; needed by the
            unit "max_activation" only.
        strict: refuse a model other than the one the SAE was trained on.

    Yields:
        A probe that counts the steered tokens.

    Raises:
        UnknownNameError: a latent is not in the dictionary.
        ConfigError: the unit is unknown or lacks max_activations=, or the model is another one.
        ShapeError: the hook has another width than the SAE.

    >>> with steer(model, sae, {4171: 8.0}) as probe:       # doctest: +SKIP
    ...     print(model.generate("My dog", 20))
    """
    site = find_site(model, sae, hook_name=hook_name, strict=strict)
    latents = check_latents(sae, strengths) if strengths else torch.empty(0, dtype=torch.int64)
    wanted = torch.tensor([float(strengths[i]) for i in latents.tolist()], device=sae.device)
    wanted = wanted * _unit_length(sae, latents, unit, max_activations)
    probe = Probe("steer", site.hook_name, latents)
    if not bool(wanted.any()):
        yield probe
        return
    direction = wanted @ sae.W_dec.detach()[latents].float()  # (d_in,)

    def rows(x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        lengths = x.norm(dim=-1) if unit == "residual_norm" else x.new_ones(len(x))
        probe.record(
            x,
            total_change=lengths * direction.norm(),
            changes=lengths.unsqueeze(-1) * wanted,
        )
        return x + lengths.unsqueeze(-1) * direction

    def edit(
        x: Float[Tensor, "batch pos d_in"], content: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_in"]:
        return edit_content_rows(x, content, rows, device=sae.device)

    with model.editing({site.hook_name: edit}):
        yield probe


def _unit_length(
    sae: SAE, latents: Tensor, unit: StrengthUnit, max_activations: PerLatent | None
) -> Tensor:
    """Length of a strength of 1 for each latent; of the unit "residual_norm", before the norm."""
    if unit in ("absolute", "residual_norm"):
        return torch.ones(len(latents), device=sae.device)
    if unit != "max_activation":
        raise ConfigError(
            f"steer: unknown unit {unit!r}; choose 'absolute', 'residual_norm' or 'max_activation'"
        )
    if max_activations is None:
        raise ConfigError(
            "steer: the unit 'max_activation' needs max_activations=, one number a latent; "
            "pass index.max_act of the SAE's LatentIndex, or choose another unit"
        )
    return per_latent(sae, max_activations, latents, what="max_activations")
