"""How the tokens of documents are laid out in the sequences that the subject model is given.

A window is one sequence. Each of its tokens knows its document and its place there: `pos` counts
the tokens of the document as the model tokenizes it alone and whole, BOS or CLS included. So `pos`
is the same however a document is cut or packed. A BOS that opens a later window of a document and
a separator between documents belong to no document.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from saetools.harvest.job import Job
from saetools.models.base import TokenBatch
from saetools.models.tokens import encode_with_bos, pad, special_ids

__all__ = ["NO_DOC", "Content", "Window", "as_batch", "rows_of", "windows"]

Content = str | tuple[int, ...]
"""A document as a text, or as the model's tokenizer has cut it already (`Document.content`)."""

NO_DOC = -1

_UNLIMITED = 10**9
_TEXTS_AT_ONCE = 256


class Window(NamedTuple):
    """One sequence: token ids, and of each token its document (`NO_DOC`: none) and place there."""

    ids: list[int]
    doc: list[int]
    pos: list[int]

    def take(self, row: Sequence[int], start: int, doc: int, *, limit: int) -> int:
        """Append tokens of a document from `start` on, up to `limit` in all; return the next."""
        part = row[start : start + limit - len(self.ids)]
        self.ids.extend(part)
        self.doc.extend([doc] * len(part))
        self.pos.extend(range(start, start + len(part)))
        return start + len(part)

    def mark(self, token_id: int) -> None:
        """Append a token that belongs to no document."""
        self.ids.append(token_id)
        self.doc.append(NO_DOC)
        self.pos.append(0)


def windows(job: Job, contents: Sequence[Content]) -> list[Window]:
    """Lay out documents; those without a token (an empty text, no BOS) have no window."""
    texts = [content for content in contents if isinstance(content, str)]
    encoder = job.model.kind == "text_encoder"
    encoded = iter(_encoder_rows(job, texts) if encoder else _language_rows(job, texts))
    rows = [next(encoded) if isinstance(c, str) else _framed(job, c) for c in contents]
    if encoder:
        return [_whole(row, doc) for doc, row in enumerate(rows) if row]
    lay = _joined if job.options.packing == "joined" else _apart
    return list(lay(rows, job))


def as_batch(job: Job, chosen: Sequence[Window]) -> TokenBatch:
    """Windows as one padded batch on the model's device."""
    return pad([window.ids for window in chosen], job.model.tokenizer, job.model.device)


def rows_of(job: Job, contents: Sequence[Content]) -> list[int]:
    """Rows that each document will have, before any is dropped for its norm; runs no model."""
    kept = job.options.special_tokens == "kept"
    specials = frozenset(() if kept else special_ids(job.model.tokenizer))
    counts = [0] * len(contents)
    for window in windows(job, contents):
        for token, doc in zip(window.ids, window.doc, strict=True):
            counts[doc] += doc != NO_DOC and token not in specials
    return counts if job.pooling == "token" else [min(count, 1) for count in counts]


def _whole(row: list[int], doc: int) -> Window:
    return Window(row, [doc] * len(row), list(range(len(row))))


def _encoder_rows(job: Job, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        tokens = job.model.tokenize(texts[start : start + _TEXTS_AT_ONCE], ctx_len=job.ctx_len)
        lengths = tokens.mask.sum(1).tolist()
        yield from (row[:n] for row, n in zip(tokens.ids.tolist(), lengths, strict=True))


def _language_rows(job: Job, texts: Sequence[str]) -> list[list[int]]:
    limit = job.ctx_len if job.long == "truncate" else _UNLIMITED
    return encode_with_bos(job.model.tokenizer, texts, limit)


def _framed(job: Job, ids: tuple[int, ...]) -> list[int]:
    """Token ids with the special tokens that the model puts around a text, once."""
    before, after = _frame(job)
    inner = list(ids)
    if before and inner[: len(before)] == before:
        inner = inner[len(before) :]
    if after and inner[-len(after) :] == after:
        inner = inner[: -len(after)]
    room = min(job.doc_tokens, _UNLIMITED) - len(before) - len(after)
    return [*before, *inner[:room], *after]


def _frame(job: Job) -> tuple[list[int], list[int]]:
    """What the model puts before and after a text, seen on a short one."""
    tokens = job.model.tokenize(["a"])
    content = tokens.content[0].nonzero().squeeze(1)
    ids, first, last = tokens.ids[0], int(content[0]), int(content[-1])
    return ids[:first].tolist(), ids[last + 1 :].tolist()


def _apart(rows: Sequence[list[int]], job: Job) -> Iterator[Window]:
    """A document a window; a long one has several, each opened by a BOS of its own."""
    bos = job.model.tokenizer.bos_token_id
    for doc, row in enumerate(rows):
        at = 0
        while at < len(row):
            window = Window([], [], [])
            if at and bos is not None:
                window.mark(bos)
            at = window.take(row, at, doc, limit=job.ctx_len)
            yield window


def _joined(rows: Sequence[list[int]], job: Job) -> Iterator[Window]:
    """Documents end to end; each begins with its BOS, or after an EOS where there is no BOS."""
    bos, eos = job.model.tokenizer.bos_token_id, job.model.tokenizer.eos_token_id
    window = Window([], [], [])
    for doc, row in enumerate(rows):
        at = 0
        # A separator with no room for a token behind it would be wasted.
        if len(window.ids) + 2 > job.ctx_len:
            yield window
            window = Window([], [], [])
        if window.ids and row and bos is None and eos is not None:
            window.mark(eos)
        while at < len(row):
            if len(window.ids) == job.ctx_len:
                yield window
                window = Window([], [], [])
            if at and not window.ids and bos is not None:
                window.mark(bos)
            at = window.take(row, at, doc, limit=job.ctx_len)
    if window.ids:
        yield window
