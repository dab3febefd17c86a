"""Ablation: set chosen latents to zero, to their mean or to a value, and leave all else as it is.

With the reconstruction error kept (the default) the model sees

    x' = x + decode(edited latents) - decode(latents) = x + Σ (new - old) · W_dec[latent],

since every decoder here is affine in its latents. Only the difference is added, so a token on which
nothing changes keeps its activation to the last bit. Without the error it sees
x' = decode(edited latents), and then everything that the SAE fails to reconstruct is lost too.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from saetools.errors import ConfigError
from saetools.intervene.apply import intervene
from saetools.intervene.base import PerLatent, check_latents, per_latent
from saetools.intervene.conditions import Condition
from saetools.intervene.operations import Clamp, LatentOperation, Mean, Resample, Zero
from saetools.intervene.positions import Positions
from saetools.intervene.probe import Probe
from saetools.intervene.request import Request
from saetools.models.base import SubjectModel
from saetools.sae import SAE

__all__ = ["AblationMode", "ablate"]

AblationMode = Literal["zero", "mean", "clamp", "clamp_active", "resample"]


@contextmanager
def ablate(
    model: SubjectModel,
    sae: SAE,
    latents: Iterable[int],
    *,
    mode: AblationMode = "zero",
    means: PerLatent | None = None,
    value: float | None = None,
    values: Any = None,
    seed: int = 0,
    keep_error: bool = True,
    hook_name: str | None = None,
    positions: Positions | str = "all",
    when: Condition | None = None,
    strict: bool = True,
) -> Iterator[Probe]:
    """Ablate latents of `sae` in `model` while the block lasts.

    Args:
        latents: which ones.
        mode: "zero"; "mean": every token gets the latent's mean activation, from `means`; "clamp":
            every token gets `value`; "clamp_active": tokens on which the latent fires get `value`;
            "resample": every token gets the activations of another one, drawn from `values`.
        means: mean activation over all tokens, silent ones included, one number a latent of the
            dictionary, e.g. `index.mean_act * index.firing_rate`; mode "mean".
        value: the activation to set, in activation units; modes "clamp" and "clamp_active".
        values: activations to draw from, (n_rows, m), a column for each of `latents`; mode
            "resample".
        seed: of the draws.
        keep_error: add only the difference to x; otherwise replace x by the edited reconstruction.
        hook_name: where; by default the hook that the SAE was trained at.
        positions: at which tokens: `Positions`, or "all", "prompt", "generated", "last", "every".
        when: ablate only where this condition holds.
        strict: refuse a model other than the one the SAE was trained on.

    Yields:
        A probe that counts how often each latent fired and how much its change moved x.

    Raises:
        UnknownNameError: a latent is not in the dictionary.
        ConfigError: the mode is unknown or lacks its argument, or the model is another one.
        ShapeError: the hook has another width than the SAE.

    >>> with ablate(model, sae, [4171, 90]) as probe:       # doctest: +SKIP
    ...     loss = model.loss(texts)
    >>> probe.summary()                                     # doctest: +SKIP
    """
    request = Request(
        _operation(sae, latents, mode, means=means, value=value, values=values, seed=seed),
        sae=sae,
        hook_name=hook_name,
        positions=positions,
        when=when,
        keep_error=keep_error,
        strict=strict,
        label="ablate",
    )
    with intervene(model, [request]) as (probe,):
        yield probe


def _operation(
    sae: SAE,
    latents: Iterable[int],
    mode: AblationMode,
    *,
    means: PerLatent | None,
    value: float | None,
    values: Any,
    seed: int,
) -> LatentOperation:
    """What becomes of the chosen latents."""
    chosen = check_latents(sae, latents)
    names = chosen.tolist()
    if mode == "zero":
        return Zero(names)
    if mode == "mean":
        if means is None:
            raise ConfigError(
                "ablate: mode 'mean' needs means=, the mean activation of each latent over all "
                "tokens; measure it on the store, or choose mode 'zero'"
            )
        table = per_latent(sae, means, chosen, what="means").tolist()
        return Mean(dict(zip(names, table, strict=True)))
    if mode == "resample":
        if values is None:
            raise ConfigError(
                "ablate: mode 'resample' needs values=, activations (n_rows, m) to draw from; pass "
                "e.g. sae.encode(x).of(latents) of some activations x"
            )
        return Resample(names, values, seed)
    if mode not in ("clamp", "clamp_active"):
        raise ConfigError(
            f"ablate: unknown mode {mode!r}; choose 'zero', 'mean', 'clamp', 'clamp_active' or "
            "'resample'"
        )
    if value is None:
        raise ConfigError(f"ablate: mode {mode!r} needs value=, the activation to set")
    amounts = dict.fromkeys(names, float(value))
    return Clamp(amounts, "always" if mode == "clamp" else "active")
