"""What is known of a forward pass: its tokens, their places, which of them were generated.

`PassWatcher` makes these; edits read them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["ForwardPass"]


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
        rows_before: what identifies each row's tokens before this pass; None if not known.
        rows_after: the same with this pass's tokens; None if not known.
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
    rows_before: Sequence[bytes] | None = None
    rows_after: Sequence[bytes] | None = None
