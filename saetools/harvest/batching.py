"""How a corpus is cut into groups and batches: by its texts alone, so that a resume repeats it.

A group is what one commit writes: whole documents, in corpus order. Inside a group documents are
batched by length, so that little of a forward pass is padding.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from saetools.corpus import Document

__all__ = ["Group", "groups", "length_batches"]

_CHARS_PER_TOKEN = 4


class Group(NamedTuple):
    """Documents `start` to `stop` (excluded) of a corpus."""

    start: int
    stop: int


def groups(documents: Sequence[Document], *, group_tokens: int, ctx_len: int) -> Iterator[Group]:
    """Cut a corpus into groups of about `group_tokens` tokens, by the length of the texts."""
    start = 0
    size = 0.0
    for index, document in enumerate(documents):
        size += min(len(document.text) / _CHARS_PER_TOKEN, ctx_len)
        if size >= group_tokens:
            yield Group(start, index + 1)
            start, size = index + 1, 0.0
    if start < len(documents):
        yield Group(start, len(documents))


def length_batches(texts: Sequence[str], *, batch_tokens: int, ctx_len: int) -> Iterator[list[int]]:
    """Yield the indices of the texts, longest first, in batches of about `batch_tokens` tokens."""
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    start = 0
    while start < len(order):
        longest = min(len(texts[order[start]]) / _CHARS_PER_TOKEN + 2, ctx_len)
        stop = start + max(1, int(batch_tokens / longest))
        yield order[start:stop]
        start = stop
