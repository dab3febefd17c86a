"""What is known of a forward pass: its tokens, their places, which of them were generated.

`PassWatcher` makes these; edits read them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["ForwardPass", "RowNames", "unwatched_pass"]

RowNames = tuple[Sequence[bytes], Sequence[bytes]]
"""Equal bytes for equal tokens: of each row before a pass, and after it."""


@dataclass(frozen=True)
class ForwardPass:
    """The tokens of one forward pass, (batch, pos) throughout; of a cached step the new ones only.

    Args:
        number: counts the passes of a watcher, from 1.
        ids: token ids; None where the model was called with embeddings.
        content: True at content tokens.
        real: True but at padding.
        place: number of real tokens before each in its row, those in the cache included.
        generated: True at tokens that `generate` made, and outside of it at the tokens of a pass
            that goes on from a cache.
        prompt_length: real tokens of each row's prompt, (batch,).
        prompt_content_end: place of the last content token of each row's prompt if it is in this
            pass, (batch,); -1 where it is not.
        n_past: columns that the cache holds.
        row_names: gives what identifies each row's tokens before this pass, and with those of this
            pass; None where that is not known.
    """

    number: int
    ids: Int[Tensor, "batch pos"] | None
    content: Bool[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    place: Int[Tensor, "batch pos"]
    generated: Bool[Tensor, "batch pos"]
    prompt_length: Int[Tensor, " batch"]
    prompt_content_end: Int[Tensor, " batch"]
    n_past: int
    row_names: Callable[[], RowNames | None] = lambda: None


def unwatched_pass(content: Bool[Tensor, "batch pos"]) -> ForwardPass:
    """A pass of which nothing but the content is known: one text a row, all of it prompt."""
    place = torch.arange(content.shape[1], device=content.device).expand(content.shape)
    last = torch.where(content, place, -1).amax(1) if content.shape[1] else content.sum(1) - 1
    return ForwardPass(
        number=1,
        ids=None,
        content=content,
        real=content,
        place=place,
        generated=torch.zeros_like(content),
        prompt_length=content.sum(1),
        prompt_content_end=last,
        n_past=0,
    )
