"""What an SAE makes of an activation, put where it belongs while the model runs.

An SAE reconstructs the activation that it reads. A transcoder reads one and makes another of it,
later in the same forward pass (Dunefsky et al. 2024, arXiv:2406.11944):

    y' = decode(encode(u))      u at the hook that is read, y' in the place of y at the other

At content tokens alone; special tokens and padding keep theirs.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.errors import ConfigError, ShapeError
from saetools.intervene.base import (
    asked_hook,
    check_trained_on,
    edit_content_rows,
    hook_of_width,
)
from saetools.models.base import Edit, SubjectModel
from saetools.sae import SAE

__all__ = ["Ends", "find_ends", "replacing", "wrong_order"]

Seen = Callable[[Tensor, Tensor], None]
"""Told the activations that are replaced (n, d_out) and what stands in their place."""


class Ends(NamedTuple):
    """The hook that an SAE reads and the one that it writes: the same, but for a transcoder."""

    reads: str
    writes: str


def find_ends(
    model: SubjectModel, sae: SAE, *, hook_name: str | None = None, strict: bool = True
) -> Ends:
    """Find the hooks that `sae` reads and writes in `model`, and check that they fit.

    Args:
        hook_name: the hook that is read; by default the one that the SAE was trained at.
        strict: refuse a model whose weights are not those that the SAE was trained on.

    Raises:
        ConfigError: a hook is not known, or the model is another one than the SAE's.
        HookNotFoundError: the model lacks a hook.
        ShapeError: a hook has another width than the SAE.
    """
    asked = asked_hook(sae, hook_name)
    target = sae.target_hook_name
    if target is None and sae.d_out != sae.config.d_in:
        raise ConfigError(
            f"the {sae.config.type} of {asked} writes activations of width {sae.d_out} and does "
            "not say where; set target_hook_name in its config"
        )
    reads = hook_of_width(model, sae, asked, verb="reads", width=sae.config.d_in)
    writes = reads
    if target is not None:
        writes = hook_of_width(model, sae, target, verb="writes", width=sae.d_out)
    check_trained_on(model, sae, strict=strict)
    return Ends(reads, writes)


def replacing(sae: SAE, ends: Ends, *, seen: Seen | None = None) -> Mapping[str, Edit]:
    """The edits, by hook, under which the model runs on what the SAE makes of its activations.

    Args:
        ends: from `find_ends`.
        seen: told of every replacement.

    Raises:
        ConfigError: in a forward pass that computes what is written before what is read.
    """
    tell = seen or (lambda _before, _after: None)
    if ends.reads == ends.writes:

        def spliced(
            x: Float[Tensor, "batch pos d_in"], content: Bool[Tensor, "batch pos"]
        ) -> Float[Tensor, "batch pos d_in"]:
            return edit_content_rows(x, content, _told(sae, tell), device=sae.device)

        return {ends.writes: spliced}
    passing = _Passing(sae, ends, tell)
    return {ends.reads: passing.read, ends.writes: passing.write}


def wrong_order(model: SubjectModel, ends: Ends) -> str | None:
    """Say so if the model computes what is written before what is read; runs two tokens."""
    if ends.reads == ends.writes:
        return None
    order: list[str] = []

    def noting(name: str) -> Edit:
        def note(x: Tensor, _content: Tensor) -> Tensor:
            order.append(name)
            return x

        return note

    with model.editing({name: noting(name) for name in ends}):
        model.activations(model.tokenize([[0, 0]]), list(ends))
    return None if order[0] == ends.reads else _out_of_order(ends)


class _Passing:
    """Carries what is read in a forward pass to where it is written in the same pass."""

    def __init__(self, sae: SAE, ends: Ends, tell: Seen) -> None:
        self._sae, self._ends, self._tell = sae, ends, tell
        self._read: Tensor | None = None

    def read(self, x: Tensor, _content: Tensor) -> Tensor:
        self._read = x
        return x

    def write(self, y: Tensor, content: Tensor) -> Tensor:
        x, self._read = self._read, None
        if x is None:
            raise ConfigError(f"this transcoder cannot be spliced: {_out_of_order(self._ends)}")
        if x.shape[:2] != y.shape[:2]:
            raise ShapeError(
                f"{self._ends.reads} has {tuple(x.shape[:2])} tokens and {self._ends.writes} has "
                f"{tuple(y.shape[:2])} in one forward pass; a transcoder takes one to the other "
                "token by token"
            )
        device = self._sae.device
        rows = x[content.to(x.device)].to(device, torch.float32)
        told = _told(self._sae, self._tell)
        return edit_content_rows(y, content, lambda before: told(before, rows), device=device)


def _told(sae: SAE, tell: Seen) -> Callable[..., Tensor]:
    """What takes the place of rows: made of them, or of others where a second argument is given."""

    def rows(before: Float[Tensor, "n d_out"], x: Tensor | None = None) -> Float[Tensor, "n d_out"]:
        after: Tensor = sae(before if x is None else x)
        tell(before, after)
        return after

    return rows


def _out_of_order(ends: Ends) -> str:
    return (
        f"it reads {ends.reads}, which the model computes after {ends.writes}, what it writes; "
        "only a hook that comes earlier in the forward pass can be read for it"
    )
