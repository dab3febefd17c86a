"""Ablation: set chosen latents to zero, to their mean or to a value, and leave all else as it is.

With the reconstruction error kept (the default) the model sees

    x' = x + decode(edited latents) - decode(latents) = x + Σ (new - old) · W_dec[latent],

since every decoder here is affine in its latents. Only the difference is added, so a token on which
nothing changes keeps its activation to the last bit. Without the error it sees
x' = decode(edited latents), and then everything that the SAE fails to reconstruct is lost too.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.base import (
    PerLatent,
    activations_of,
    check_latents,
    edit_content_rows,
    find_site,
    per_latent,
)
from saetools.intervene.probe import Probe
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.types import SparseLatents

__all__ = ["AblationMode", "ablate"]

AblationMode = Literal["zero", "mean", "clamp", "clamp_active"]
_Rule = Callable[[Tensor], Tensor]


@contextmanager
def ablate(
    model: SubjectModel,
    sae: SAE,
    latents: Iterable[int],
    *,
    mode: AblationMode = "zero",
    means: PerLatent | None = None,
    value: float | None = None,
    keep_error: bool = True,
    hook_name: str | None = None,
    strict: bool = True,
) -> Iterator[Probe]:
    """Ablate latents of `sae` in `model` while the block lasts.

    Args:
        latents: which ones.
        mode: "zero"; "mean": every token gets the latent's mean activation, from `means`; "clamp":
            every token gets `value`; "clamp_active": tokens on which the latent fires get `value`.
        means: mean activation over all tokens, silent ones included, one number a latent of the
            dictionary, e.g. `index.mean_act * index.firing_rate`; mode "mean".
        value: the activation to set, in activation units; modes "clamp" and "clamp_active".
        keep_error: add only the difference to x; otherwise replace x by the edited reconstruction.
        hook_name: where; by default the hook that the SAE was trained at.
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
    site = find_site(model, sae, hook_name=hook_name, strict=strict)
    chosen = check_latents(sae, latents)
    rule = _rule(sae, chosen, mode, means, value)
    probe = Probe("ablate", site.hook_name, chosen)
    decoder = sae.W_dec.detach()[chosen].float()  # (m, d_in)

    def rows(x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        encoded = sae.encode(x)
        old, slots = activations_of(encoded, chosen)
        new = rule(old)
        if keep_error:
            edited = _add_difference(x, new - old, decoder)
        else:
            edited = sae.decode(_replaced(encoded, slots, chosen, new))
        probe.record(
            x,
            total_change=(edited - x).norm(dim=-1),
            changes=(new - old) * decoder.norm(dim=-1),
            activations=old,
        )
        return edited

    def edit(
        x: Float[Tensor, "batch pos d_in"], content: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_in"]:
        return edit_content_rows(x, content, rows, device=sae.device)

    with model.editing({site.hook_name: edit}):
        yield probe


def _rule(
    sae: SAE,
    chosen: Tensor,
    mode: AblationMode,
    means: PerLatent | None,
    value: float | None,
) -> _Rule:
    """What the activations of the chosen latents become."""
    if mode == "zero":
        return torch.zeros_like
    if mode == "mean":
        if means is None:
            raise ConfigError(
                "ablate: mode 'mean' needs means=, the mean activation of each latent over all "
                "tokens; measure it on the store, or choose mode 'zero'"
            )
        target = per_latent(sae, means, chosen, what="means")
        return lambda old: target.expand_as(old)
    if mode not in ("clamp", "clamp_active"):
        raise ConfigError(
            f"ablate: unknown mode {mode!r}; choose 'zero', 'mean', 'clamp' or 'clamp_active'"
        )
    if value is None:
        raise ConfigError(f"ablate: mode {mode!r} needs value=, the activation to set")
    level = float(value)
    if mode == "clamp":
        return lambda old: torch.full_like(old, level)
    return lambda old: torch.where(old != 0, level, old)


def _add_difference(
    x: Float[Tensor, "n d_in"], change: Float[Tensor, "n m"], decoder: Float[Tensor, "m d_in"]
) -> Float[Tensor, "n d_in"]:
    """x plus the change of its latents; rows without a change keep their bits."""
    moved = (change != 0).any(-1, keepdim=True)  # (n, 1)
    return torch.where(moved, x + change @ decoder, x)


def _replaced(
    latents: SparseLatents,
    slots: Bool[Tensor, "n k"],
    chosen: Int[Tensor, " m"],
    new: Float[Tensor, "n m"],
) -> SparseLatents:
    """The latents with the chosen ones' slots emptied and their new values in m further slots."""
    values = torch.cat([latents.values.masked_fill(slots, 0.0), new], dim=1)
    indices = torch.cat([latents.indices, chosen.expand(len(new), -1)], dim=1)
    return SparseLatents(values, indices, latents.n_latents)
