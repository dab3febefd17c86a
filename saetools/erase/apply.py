"""Erase in a running model: every forward pass inside the block sees erased rows.

Erasers that look at whole texts remember, for the length of the block, what they have seen of each:
a pass over one position continues the texts of the pass before it (generation with a KV cache), any
other pass begins new ones. So with a cache a token keeps what was decided when it was read, while
without one every pass decides anew on the whole text; the two agree as long as the decision does.
Beam search reorders texts between passes; such erasers do not follow.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.erase.base import Eraser
from saetools.erase.latents import GatedEraser, score_sums
from saetools.erase.rows import Place, Tokens
from saetools.errors import ConfigError, ShapeError
from saetools.intervene.base import edit_content_rows
from saetools.intervene.probe import Probe
from saetools.models.base import SubjectModel

__all__ = ["erased"]


@contextmanager
def erased(
    model: SubjectModel,
    eraser: Eraser,
    *,
    hook_name: str | None = None,
    tokens: Tokens = "content",
    strict: bool = True,
) -> Iterator[Probe]:
    """Apply an eraser in `model` while the block lasts.

    Args:
        hook_name: where; by default where it was fitted.
        tokens: edit the text's own tokens only, or every position, special tokens included. In a
            text encoder the special tokens carry the topic of the text past an edit that leaves
            them alone.
        strict: refuse a model other than the one it was fitted in.

    Yields:
        A probe that counts the tokens and the size of their change.

    Raises:
        ConfigError: no hook is known, or the model is another one.
        ShapeError: the hook has another width.

    >>> with erased(model, eraser) as probe:                # doctest: +SKIP
    ...     vectors = model.embed(texts)
    """
    hook = _hook(model, eraser, hook_name, strict)
    latents = eraser.tensors.get("latents", torch.empty(0, dtype=torch.int64))
    probe = Probe("erase", hook, torch.empty(0, dtype=torch.int64, device=latents.device))
    memory = _Memory(eraser)

    def edit(
        x: Float[Tensor, "batch pos d_in"], content: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_in"]:
        wanted = content if tokens == "content" else torch.ones_like(content)
        place = memory.place(wanted)

        def rows(before: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
            after = eraser(before, place=place)
            memory.saw(before, place)
            probe.record(before, total_change=(after - before).norm(dim=-1))
            return after

        return edit_content_rows(x, wanted, rows, device=eraser.device)

    with model.editing({hook: edit}):
        yield probe


class _Memory:
    """What a block has seen of the texts of the pass before; nothing for erasers of single rows."""

    def __init__(self, eraser: Eraser) -> None:
        self._eraser = eraser
        self._counts: Tensor | None = None
        self._sums: Tensor | None = None

    def place(self, wanted: Bool[Tensor, "batch pos"]) -> Place:
        """Text and place of the wanted positions, in the order in which rows are cut out."""
        batch = len(wanted)
        goes_on = wanted.shape[1] == 1 and self._counts is not None and len(self._counts) == batch
        if not goes_on or self._counts is None or self._sums is None:
            self._counts = torch.zeros(batch, dtype=torch.int64, device=wanted.device)
            self._sums = torch.zeros(batch, 2, device=wanted.device)
        pos = self._counts.unsqueeze(1) + wanted.cumsum(1) - 1  # (batch, pos)
        text = torch.arange(batch, device=wanted.device).unsqueeze(1).expand_as(wanted)
        self._counts = self._counts + wanted.sum(1)
        return Place(text[wanted], pos[wanted], self._sums)

    def saw(self, x: Float[Tensor, "n d_in"], place: Place) -> None:
        """Add the scores of these rows to those of their texts."""
        if isinstance(self._eraser, GatedEraser) and self._sums is not None:
            place = place.to(x.device)
            sums = score_sums(self._eraser.scored(x).scores, place)
            self._sums = self._sums + sums.to(self._sums.device)


def _hook(model: SubjectModel, eraser: Eraser, hook_name: str | None, strict: bool) -> str:
    asked = hook_name or eraser.hook_name
    if asked is None:
        raise ConfigError(
            f"no hook to erase at: this {eraser.kind} eraser was fitted on rows without one; pass "
            "hook_name='resid_post.<layer>'"
        )
    found = model.resolve(asked)
    if model.width(found) != eraser.d_in:
        raise ShapeError(
            f"this {eraser.kind} eraser reads rows of width {eraser.d_in}, but {found} of "
            f"{model.name} has width {model.width(found)}; use it where it was fitted"
        )
    fitted_in = eraser.report.model
    if strict and fitted_in is not None and fitted_in != model.fingerprint:
        raise ConfigError(
            f"this {eraser.kind} eraser was fitted in a model with fingerprint {fitted_in}, and "
            f"{model.name} has {model.fingerprint}; fit it again there, or pass strict=False"
        )
    return found
