"""What all interventions share: where an SAE meets a model, and how rows are read and put back.

This file edits nothing by itself; `steer`, `ablate` and `splice` do.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saetools.errors import ConfigError, ShapeError, UnknownNameError
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.types import SparseLatents

__all__ = [
    "PerLatent",
    "RowEdit",
    "Site",
    "activations_of",
    "asked_hook",
    "check_latents",
    "check_trained_on",
    "edit_content_rows",
    "find_site",
    "hook_of_width",
    "per_latent",
]

PerLatent = Sequence[float] | npt.NDArray[np.floating] | Tensor
"""One number for every latent of a dictionary."""

RowEdit = Callable[[Tensor], Tensor]
"""Maps float32 activations of content tokens (n, d_in), on the SAE's device, to new ones."""


@dataclass(frozen=True)
class Site:
    """A hook of a model at which an SAE has been checked to belong."""

    model: SubjectModel
    sae: SAE
    hook_name: str


def find_site(
    model: SubjectModel, sae: SAE, *, hook_name: str | None = None, strict: bool = True
) -> Site:
    """Find the hook that `sae` reads in `model` and check that the two fit.

    Args:
        hook_name: the hook; by default the one that the SAE was trained at.
        strict: refuse a model whose weights are not those that the SAE was trained on. An SAE that
            does not say which model it was trained on is accepted.

    Raises:
        ConfigError: no hook is known, or the model is another one than the SAE's.
        HookNotFoundError: the model lacks the hook.
        ShapeError: the hook has another width than the SAE.
    """
    asked = asked_hook(sae, hook_name)
    if sae.target_hook_name is not None or sae.d_out != sae.config.d_in:
        raise ConfigError(
            f"{_spell(sae)} reads {asked} and writes {sae.target_hook_name or 'another hook'}: its "
            "decoder does not act where it reads, so it cannot be steered or ablated there; use an "
            "SAE that reconstructs what it reads"
        )
    found = hook_of_width(model, sae, asked, verb="reads", width=sae.config.d_in)
    check_trained_on(model, sae, strict=strict)
    return Site(model, sae, found)


def asked_hook(sae: SAE, hook_name: str | None) -> str:
    """The hook that was asked for, or the one that the SAE was trained to read.

    Raises:
        ConfigError: neither is known.
    """
    asked = hook_name or sae.meta.get("hook_name")
    if asked is None:
        raise ConfigError(
            f"no hook to act on: {_spell(sae)} does not say where it was trained and no hook_name "
            "was given; pass hook_name='blocks.<layer>.hook_resid_post' or the like"
        )
    return str(asked)


def hook_of_width(
    model: SubjectModel, sae: SAE, hook_name: str, *, verb: Literal["reads", "writes"], width: int
) -> str:
    """The canonical name of a hook of the model, once its width is the SAE's.

    Raises:
        HookNotFoundError: the model lacks it.
        ShapeError: it has another width.
    """
    found = model.resolve(hook_name)
    has = model.width(found)
    if has != width:
        raise ShapeError(
            f"{_spell(sae)} {verb} activations of width {width}, but {found} of {model.name} has "
            f"width {has}; use the hook and the model that the SAE was trained on"
        )
    return found


def check_trained_on(model: SubjectModel, sae: SAE, *, strict: bool) -> None:
    """Refuse another model than the one that the SAE says it was trained on, if `strict`.

    Raises:
        ConfigError: it is another one.
    """
    trained_on = _trained_on(sae)
    if strict and trained_on is not None and trained_on != model.fingerprint:
        raise ConfigError(
            f"{_spell(sae)} was trained on a model with fingerprint {trained_on}, but "
            f"{model.name} has {model.fingerprint}; load the SAE's own model, or pass strict=False "
            "if the other weights are meant"
        )


def check_latents(sae: SAE, latents: Iterable[int]) -> Int[Tensor, " m"]:
    """Return the chosen latents as a tensor on the SAE's device, in their order, each once.

    Raises:
        UnknownNameError: one lies outside the dictionary.
        ConfigError: none was given.
    """
    chosen = list(dict.fromkeys(int(latent) for latent in latents))
    n_latents = sae.config.n_latents
    outside = [latent for latent in chosen if not 0 <= latent < n_latents]
    if outside:
        raise UnknownNameError(
            f"latent {', '.join(map(str, outside[:5]))} asked for, but {_spell(sae)} has the "
            f"latents 0 to {n_latents - 1}; choose among those"
        )
    if not chosen:
        raise ConfigError(
            f"no latent was given; name at least one of the {n_latents} of {_spell(sae)}"
        )
    return torch.tensor(chosen, dtype=torch.int64, device=sae.device)


def per_latent(
    sae: SAE, figures: PerLatent, latents: Int[Tensor, " m"], *, what: str
) -> Float[Tensor, " m"]:
    """Pick the chosen latents' entries of `figures`, which has one number for every latent."""
    table = torch.as_tensor(figures, dtype=torch.float32, device=sae.device)
    if table.shape != (sae.config.n_latents,):
        raise ShapeError(
            f"{what} takes one number for each of the {sae.config.n_latents} latents of "
            f"{_spell(sae)}; got shape {tuple(table.shape)}; pass e.g. the column of a LatentIndex"
        )
    return table[latents]


def activations_of(
    latents: SparseLatents, chosen: Int[Tensor, " m"]
) -> tuple[Float[Tensor, "n m"], Bool[Tensor, "n k"]]:
    """Activations of the chosen latents (zero where silent), and the slots that hold them.

    Costs n·k, whatever the number of chosen latents.
    """
    column = torch.full((latents.n_latents,), len(chosen), device=latents.indices.device)
    column[chosen] = torch.arange(len(chosen), device=column.device)
    where = column[latents.indices]  # (n, k); len(chosen) stands for "not chosen"
    table = latents.values.new_zeros(len(latents), len(chosen) + 1)
    table = table.scatter_add(1, where, latents.values)  # (n, m + 1)
    return table[:, :-1], where < len(chosen)


def edit_content_rows(
    x: Float[Tensor, "batch pos d_in"],
    content: Bool[Tensor, "batch pos"],
    edit: RowEdit,
    *,
    device: torch.device,
) -> Float[Tensor, "batch pos d_in"]:
    """Replace the rows of content tokens by `edit` of them.

    All other rows keep their bits, and so do content rows that `edit` returns as they were, in
    every dtype of the model.
    """
    rows = x[content]  # (n, d_in)
    if len(rows) == 0:
        return x
    before = rows.to(device, torch.float32)
    after = edit(before)
    moved = (after != before).any(-1, keepdim=True).to(x.device)  # (n, 1)
    out = x.clone()
    out[content] = torch.where(moved, after.to(x.device, x.dtype), rows)
    return out


def _trained_on(sae: SAE) -> str | None:
    """Fingerprint of the model that the SAE was trained on, if it says so."""
    model = sae.meta.get("model")
    if isinstance(model, dict):
        found = model.get("fingerprint")
    else:
        found = sae.meta.get("model_fingerprint")
    return None if found is None else str(found)


def _spell(sae: SAE) -> str:
    place = sae.meta.get("hook_name", "an unknown hook")
    return f"the {sae.config.type} SAE of {place} ({sae.config.n_latents} latents)"
