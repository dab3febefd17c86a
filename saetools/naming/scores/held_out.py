"""The held-out documents of an index, as rows of tokens: the only texts that names are scored on.

Whatever is read from an index for scoring passes through here, and nothing of a training document
does. This file reads; it does not choose what is scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from saetools.analysis.words import Words, rebuild_words

__all__ = ["Firings", "HeldOut", "Indexed", "held_out_documents"]

Ints = npt.NDArray[np.int64]
_HUGS_LEFT = frozenset(".,;:!?)]}%'\"\u2019\u201d")


class Indexed(Protocol):
    """What scoring asks of an index; a `LatentIndex` has it all."""

    @property
    def n_latents(self) -> int:
        """Size of the dictionary."""

    @property
    def docs(self) -> Any:
        """Of every document: `held_out` and `label`."""

    @property
    def firing_rate(self) -> Any:
        """Share of tokens on which each latent fires."""

    @property
    def max_act(self) -> Any:
        """Largest activation of each latent."""

    @property
    def coactivation(self) -> Any:
        """Latents that fire together."""

    @property
    def decoder_neighbours(self) -> Any:
        """Latents whose decoder rows point the same way."""

    def tokens_of(self, doc: int) -> list[str]:
        """Readable tokens of a document."""

    def postings(self, latent: int) -> Any:
        """Every activation of a latent: document, place in it, value."""


@dataclass(frozen=True)
class Firings:
    """Where a latent fires in held-out documents, in order of rows.

    Args:
        row: rows of `HeldOut`.
        value: activation on each, above zero.
    """

    row: Int64[np.ndarray, " m"]
    value: Float32[np.ndarray, " m"]


@dataclass(frozen=True)
class HeldOut:
    """All held-out documents, one row a token, documents one after the other.

    Args:
        doc: document of each row, its number in the store.
        token: index into `texts` of each row.
        texts: readable tokens.
        words: the word of each row, the word before it and the one after.
        occurrence: which word of the texts a row belongs to, counted through.
        label: label of every document of the store, by its number.
        starts: first row of every document of the store, -1 of those that are not held out.
    """

    doc: Int64[np.ndarray, " n"]
    token: Int64[np.ndarray, " n"]
    texts: list[str]
    words: Words
    occurrence: Int64[np.ndarray, " n"]
    label: Sequence[str | None]
    starts: Int64[np.ndarray, " n_docs"]

    def __len__(self) -> int:
        return len(self.doc)

    @cached_property
    def docs(self) -> Ints:
        """Numbers of the held-out documents that have tokens."""
        return np.unique(self.doc)

    @cached_property
    def span(self) -> Int64[np.ndarray, "n 2"]:
        """First row, and last + 1, of the document of each row."""
        first = np.searchsorted(self.doc, self.doc, side="left")
        last = np.searchsorted(self.doc, self.doc, side="right")
        return np.stack([first, last], axis=1)

    def firings(self, postings: Any) -> Firings:
        """The held-out part of a latent's postings."""
        doc = np.asarray(postings.doc, dtype=np.int64)
        kept = (self.starts[doc] >= 0) & (np.asarray(postings.value) > 0)
        row = self.starts[doc[kept]] + np.asarray(postings.pos, dtype=np.int64)[kept]
        order = np.argsort(row, kind="stable")
        value = np.asarray(postings.value, dtype=np.float32)[kept]
        return Firings(row[order], value[order])

    def text_of(self, rows: Ints) -> str:
        """The text of some rows, in their order."""
        return "".join(self.texts[t] for t in self.token[rows]).strip()

    def windows(self, centre: Ints, window: int) -> Int64[np.ndarray, "c w"]:
        """Rows from `window` before each centre to `window` after, -1 beyond its document."""
        rows = centre[:, None] + np.arange(-window, window + 1)
        span = self.span[centre]
        inside = (rows >= span[:, :1]) & (rows < span[:, 1:])
        return np.where(inside, rows, -1)


def held_out_documents(index: Indexed) -> HeldOut:
    """Read the held-out documents of an index; no training document is opened."""
    held = np.asarray(index.docs.held_out, dtype=bool)
    starts = np.full(len(held), -1, dtype=np.int64)
    ids: dict[str, int] = {}
    docs: list[Ints] = []
    tokens: list[Ints] = []
    n_rows = 0
    for doc in np.flatnonzero(held).tolist():
        found = index.tokens_of(doc)
        starts[doc] = n_rows
        n_rows += len(found)
        docs.append(np.full(len(found), doc, dtype=np.int64))
        tokens.append(np.array([ids.setdefault(t, len(ids)) for t in found], dtype=np.int64))
    none = np.zeros(0, dtype=np.int64)
    doc_of_row = np.concatenate([none, *docs])
    token = np.concatenate([none, *tokens])
    texts = list(ids)
    return _with_words(doc_of_row, token, texts, list(index.docs.label), starts)


def _with_words(
    doc: Ints, token: Ints, texts: list[str], label: list[str | None], starts: Ints
) -> HeldOut:
    begins_word = _begin_words(texts)
    words = rebuild_words(token, texts=texts, starts=begins_word, doc=doc.astype(np.int32))
    occurrence = _occurrences(token, texts, begins_word, doc)
    return HeldOut(doc, token, texts, words, occurrence, label, starts)


def _begin_words(texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether a readable token begins a word by itself.

    It does if it begins with space. Punctuation that hugs the word before it has none; it begins a
    word unless the tokenizer spells it with a space elsewhere.
    """
    known = set(texts)
    begins = [t[:1].isspace() or (t in _HUGS_LEFT and f" {t}" not in known) for t in texts]
    return np.array(begins, dtype=bool)


def _occurrences(
    token: Ints, texts: Sequence[str], begins_word: npt.NDArray[np.bool_], doc: Ints
) -> Ints:
    """Number of the word occurrence of each row; the same joints as in `rebuild_words`."""
    if not len(token):
        return np.zeros(0, dtype=np.int64)
    wordy = np.array([any(c.isalnum() or c == "_" for c in text) for text in texts])
    begins = begins_word[token] | np.r_[True, doc[1:] != doc[:-1]]
    begins[1:] |= wordy[token[1:]] != wordy[token[:-1]]
    return np.cumsum(begins) - 1
