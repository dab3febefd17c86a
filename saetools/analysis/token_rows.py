"""The token columns of a store, and what follows from them: words, labels, splits.

Twenty bytes a token, in files that are mapped: memory holds what is being looked at.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.analysis.codes import mapped
from saetools.analysis.tables import DocTable
from saetools.analysis.token_text import readable, starts_word, style_of
from saetools.analysis.words import Words, rebuild_words
from saetools.analysis.work import WorkFolder
from saetools.models.base import SubjectModel
from saetools.store import ActivationStore

__all__ = ["UNITS", "TokenRows", "read_rows"]

UNITS = ("word", "previous", "bigram", "next")

_MIN_DOCS = 8  # of a label in each split; fewer say nothing
_BLOCK = 1_000_000  # tokens looked at together

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenRows:
    """What is known of every row of a store.

    Args:
        token: index into `texts`.
        texts: readable tokens.
        doc: document.
        spans: first row of each document and the row after its last, shape (n_docs, 2).
        docs: what is known of each document.
        words: the words.
        labels: labels with enough documents in both splits.
        label_of_doc: label of each document, -1 for none of those.
    """

    token: npt.NDArray[np.int32]
    texts: list[str]
    doc: npt.NDArray[np.int32]
    spans: Ints
    docs: DocTable
    words: Words
    labels: list[str]
    label_of_doc: Ints

    @property
    def has_rows(self) -> npt.NDArray[np.bool_]:
        """Whether a document has rows."""
        return np.asarray(self.spans[:, 1] > self.spans[:, 0])

    @property
    def n_train(self) -> int:
        """Rows of training documents."""
        return int(np.diff(self.spans, axis=1)[~self.docs.held_out].sum())

    def is_held_out(self, row: Ints | slice) -> npt.NDArray[np.bool_]:
        """Whether rows belong to held-out documents."""
        return self.docs.held_out[self.doc[row]]

    def unit(self, kind: str, row: Ints | slice) -> Ints:
        """Unit of rows, -1 where there is none."""
        words = self.words
        if kind != "bigram":
            return {"word": words.word, "previous": words.previous, "next": words.next}[kind][
                row
            ].astype(np.int64)
        before = words.previous[row].astype(np.int64)
        return np.where(before >= 0, before * len(words.strings) + words.word[row], -1)

    def train_units(self, kind: str) -> Iterator[Ints]:
        """Units of all training rows, a block of rows at a time."""
        for start in range(0, len(self.token), _BLOCK):
            block = slice(start, min(start + _BLOCK, len(self.token)))
            yield self.unit(kind, block)[~self.is_held_out(block)]

    def spell(self, kind: str, unit: int) -> str:
        """Spelling of a unit."""
        strings = self.words.strings
        if kind != "bigram":
            return strings[unit]
        return f"{strings[unit // len(strings)]} {strings[unit % len(strings)]}"


def read_rows(store: ActivationStore, model: SubjectModel, work: WorkFolder) -> TokenRows:
    """Read the columns of a store and join its tokens to words."""
    held = work.load("rows", lambda: _fill(store, model, work))
    columns = [mapped(work.path / f"{name}.i4", "<i4") if store.n_tokens else np.zeros(0, np.int32)
               for name in ("token", "doc", "word", "previous", "next")]  # fmt: skip
    docs = DocTable(list(store.labels), list(store.titles), np.asarray(store.held_out))
    spans = np.asarray(store.doc_spans)
    labels, label_of_doc = _common_labels(docs, spans[:, 1] > spans[:, 0])
    return TokenRows(
        token=columns[0],
        texts=held["texts"],
        doc=columns[1],
        spans=spans,
        docs=docs,
        words=Words(held["strings"], *columns[2:]),
        labels=labels,
        label_of_doc=label_of_doc,
    )


def _fill(store: ActivationStore, model: SubjectModel, work: WorkFolder) -> dict[str, Any]:
    """Write the mapped columns; return the texts."""
    n = store.n_tokens
    token, doc = (work.array(f"{name}.i4", n, "<i4") for name in ("token", "doc"))
    blocks = [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
    ids = np.zeros(0, dtype=np.int32)
    for block in blocks:
        columns = store.columns(block.start, block.stop)
        token[block], doc[block] = columns.token_ids, columns.doc
        ids = np.union1d(ids, columns.token_ids)
    for block in blocks:
        token[block] = np.searchsorted(ids, token[block])
    pieces = [str(piece) for piece in model.tokenizer.convert_ids_to_tokens(ids.tolist())]
    style = style_of(model.tokenizer.get_vocab())
    texts = readable(pieces, style)
    starts = np.array([starts_word(piece, style) for piece in pieces], dtype=bool)
    words = rebuild_words(
        token,
        texts=texts,
        starts=starts,
        doc=doc,
        empty=lambda name: work.array(f"{name}.i4", n, "<i4"),
    )
    return {"texts": texts, "strings": words.strings}


def _common_labels(docs: DocTable, has_rows: npt.NDArray[np.bool_]) -> tuple[list[str], Ints]:
    """Labels with enough documents in both splits, and the label of each document (or -1)."""
    counts = [
        Counter(label for label, kept in zip(docs.label, which, strict=True) if kept)
        for which in (has_rows & ~docs.held_out, has_rows & docs.held_out)
    ]
    names = sorted(
        label
        for label in counts[0].keys() & counts[1].keys()
        if label is not None and min(count[label] for count in counts) >= _MIN_DOCS
    )
    ids = {name: i for i, name in enumerate(names)}
    of_doc = np.array(
        [ids.get(label, -1) if label is not None else -1 for label in docs.label], dtype=np.int64
    )
    return names, of_doc
