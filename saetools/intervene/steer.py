"""Steering: add the decoder directions of chosen latents to the activation.

    x' = x + Σ strength · W_dec[latent]

at every content token, or at those of `positions`, the generated ones included, with and without KV
cache. The SAE is not run, so its reconstruction error never enters. For more than one thing at a
time see `intervene`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from saetools.errors import ConfigError
from saetools.intervene.apply import intervene
from saetools.intervene.base import PerLatent, check_latents, per_latent
from saetools.intervene.conditions import Condition
from saetools.intervene.operations import Add
from saetools.intervene.positions import Positions
from saetools.intervene.probe import Probe
from saetools.intervene.request import Request
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
    positions: Positions | str = "all",
    when: Condition | None = None,
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
        positions: at which tokens: `Positions`, or "all", "prompt", "generated", "last", "every".
        when: steer only where this condition holds.
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
    amounts, own = dict(strengths), unit == "residual_norm"
    if unit == "max_activation":
        amounts = _of_max(sae, amounts, max_activations)
    elif unit not in ("absolute", "residual_norm"):
        raise ConfigError(
            f"steer: unknown unit {unit!r}; choose 'absolute', 'residual_norm' or 'max_activation'"
        )
    request = Request(
        Add(amounts, "residual_norm" if own else "absolute"),
        sae=sae,
        hook_name=hook_name,
        positions=positions,
        when=when,
        strict=strict,
        label="steer",
    )
    with intervene(model, [request]) as (probe,):
        yield probe


def _of_max(
    sae: SAE, strengths: Mapping[int, float], max_activations: PerLatent | None
) -> dict[int, float]:
    """Strengths in units of activation, from multiples of the latents' largest activations."""
    if max_activations is None:
        raise ConfigError(
            "steer: the unit 'max_activation' needs max_activations=, one number a latent; "
            "pass index.max_act of the SAE's LatentIndex, or choose another unit"
        )
    if not strengths:
        return {}
    chosen = check_latents(sae, strengths)
    largest = per_latent(sae, max_activations, chosen, what="max_activations").tolist()
    return {
        latent: strengths[latent] * height
        for latent, height in zip(chosen.tolist(), largest, strict=True)
    }
