"""How a corpus is cut into groups and batches: by its texts alone, so that a resume repeats it.

A group is what one commit writes: whole documents, in corpus order. Inside a group sequences are
batched by length, so that little of a forward pass is padding.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from saetools.corpus import Document

__all__ = ["Group", "groups", "guess_tokens", "length_batches"]

_CHARS_PER_TOKEN = 4


class Group(NamedTuple):
    """Documents `start` to `stop` (excluded) of a corpus."""

    start: int
    stop: int


def guess_tokens(document: Document, limit: int) -> float:
    """Tokens of a document, by the length of its text; at most `limit`."""
    if document.token_ids is not None:
        return min(len(document.token_ids), limit)
    return min(len(document.text) / _CHARS_PER_TOKEN, limit)


def groups(documents: Sequence[Document], *, group_tokens: int, ctx_len: int) -> Iterator[Group]:
    """Cut a corpus into groups of about `group_tokens` tokens, by the length of the texts.

    Args:
        ctx_len: tokens of one document that are read at most (`Job.doc_tokens`).
    """
    start = 0
    size = 0.0
    for index, document in enumerate(documents):
        size += guess_tokens(document, ctx_len)
        if size >= group_tokens:
            yield Group(start, index + 1)
            start, size = index + 1, 0.0
    if start < len(documents):
        yield Group(start, len(documents))


def length_batches(lengths: Sequence[int], *, batch_tokens: int) -> Iterator[list[int]]:
    """Yield the indices of sequences, longest first, in batches of at most `batch_tokens` tokens.

    Padding counts. A sequence that is longer alone is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        stop = start + max(1, batch_tokens // max(lengths[order[start]], 1))
        yield order[start:stop]
        start = stop
