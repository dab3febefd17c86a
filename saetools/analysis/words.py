"""Words of a whole store: wordpieces joined again, counted, with the words around each token."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Words", "rebuild_words"]

_BLOCK = 500_000  # tokens whose spelling is in memory together

Ints = npt.NDArray[np.int64]
Column = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Words:
    """The word that each token belongs to.

    Args:
        strings: spelling of each word; upper and lower case count as one word, shown as it is
            written most often.
        word: word of each row, shape (n,).
        previous: word before that one in its document, -1 at a document's first word, shape (n,).
        next: word after it, -1 at a document's last word, shape (n,).
    """

    strings: list[str]
    word: Column
    previous: Column
    next: Column


def rebuild_words(
    token: npt.NDArray[Any],
    *,
    texts: Sequence[str],
    starts: npt.NDArray[np.bool_],
    doc: npt.NDArray[np.int32],
    empty: Callable[[str], Column] | None = None,
) -> Words:
    """Join the tokens of each document into words.

    A word begins where its piece says so, at a document's first token, and wherever letters meet
    punctuation; punctuation is a word of its own.

    Args:
        token: index into `texts` of each row, shape (n,).
        texts: readable text of each token.
        starts: whether a token begins a word by itself, one for each of `texts`.
        doc: document of each row, shape (n,); rows of a document are neighbours.
        empty: makes the columns "word", "previous" and "next"; in memory by default.
    """
    make = empty or (lambda _: np.empty(len(token), dtype=np.int32))
    word, previous, following = (make(name) for name in ("word", "previous", "next"))
    wordy = np.array([any(c.isalnum() or c == "_" for c in text) for text in texts], dtype=bool)
    forms: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    blocks = list(_whole_documents(doc))
    for block in blocks:
        here = np.asarray(token[block])
        first_of_doc = np.diff(doc[block], prepend=-1) != 0
        begins = starts[here] | first_of_doc
        begins[1:] |= wordy[here[1:]] != wordy[here[:-1]]
        spelled = _spell(here.tolist(), np.flatnonzero(begins).tolist(), texts)
        forms.update(spelled)
        form = np.array([numbers.setdefault(text, len(numbers)) for text in spelled])
        first = first_of_doc[begins]
        occurrence = np.cumsum(begins) - 1  # of each row
        word[block] = form[occurrence]
        previous[block] = np.where(first, -1, np.r_[-1, form[:-1]])[occurrence]
        last = np.r_[first[1:], True]
        following[block] = np.where(last, -1, np.r_[form[1:], -1])[occurrence]
    strings, word_of_form = _vocabulary(forms, numbers)
    lookup = np.r_[word_of_form, -1].astype(np.int32)  # -1 stays -1
    for block in blocks:
        for column in (word, previous, following):
            column[block] = lookup[column[block]]
    return Words(strings, word, previous, following)


def _whole_documents(doc: npt.NDArray[np.int32]) -> Iterator[slice]:
    """Ranges of rows of about `_BLOCK` tokens that cut no document."""
    start = 0
    while start < len(doc):
        stop = len(doc)
        if start + _BLOCK < len(doc):
            stop = int(np.searchsorted(doc, doc[start + _BLOCK]))
            if stop <= start:  # a document longer than the block
                stop = int(np.searchsorted(doc, doc[start], side="right"))
        yield slice(start, stop)
        start = stop


def _spell(token: list[int], begins: list[int], texts: Sequence[str]) -> list[str]:
    stops = [*begins[1:], len(token)]
    return [
        "".join([texts[t] for t in token[start:stop]]).strip() or texts[token[start]]
        for start, stop in zip(begins, stops, strict=True)
    ]


def _vocabulary(forms: Counter[str], numbers: dict[str, int]) -> tuple[list[str], Ints]:
    """Distinct words in order of appearance, and the word of each form by its number."""
    shown: dict[str, str] = {}
    for form, count in forms.items():
        folded = form.casefold()
        if folded not in shown or count > forms[shown[folded]]:
            shown[folded] = form
    ids = {folded: i for i, folded in enumerate(shown)}
    of_form = np.array([ids[form.casefold()] for form in numbers], dtype=np.int64)
    return list(shown.values()), of_form
