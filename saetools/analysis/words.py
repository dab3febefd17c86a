"""Words of a whole store: wordpieces joined again, counted, with the words around each token."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Words", "rebuild_words"]

Ints = npt.NDArray[np.int64]


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
    word: Ints
    previous: Ints
    next: Ints


def rebuild_words(
    token: Ints,
    *,
    texts: Sequence[str],
    starts: npt.NDArray[np.bool_],
    doc: npt.NDArray[np.int32],
) -> Words:
    """Join the tokens of each document into words.

    A word begins where its piece says so, at a document's first token, and wherever letters meet
    punctuation; punctuation is a word of its own.

    Args:
        token: index into `texts` of each row, shape (n,).
        texts: readable text of each token.
        starts: whether a token begins a word by itself, one for each of `texts`.
        doc: document of each row, shape (n,); rows of a document are neighbours.
    """
    if not len(token):
        empty = np.zeros(0, dtype=np.int64)
        return Words([], empty, empty, empty)
    wordy = np.array([any(c.isalnum() or c == "_" for c in text) for text in texts])
    first_of_doc = np.r_[True, doc[1:] != doc[:-1]]
    begins = starts[token] | first_of_doc
    begins[1:] |= wordy[token[1:]] != wordy[token[:-1]]
    occurrence = np.cumsum(begins) - 1  # of each row
    spelled = _spell(token.tolist(), np.flatnonzero(begins).tolist(), texts)
    strings, word_of = _vocabulary(spelled)
    first_word = first_of_doc[begins]
    previous_of = np.where(first_word, -1, np.r_[-1, word_of[:-1]])
    next_of = np.where(np.r_[first_word[1:], True], -1, np.r_[word_of[1:], -1])
    return Words(strings, word_of[occurrence], previous_of[occurrence], next_of[occurrence])


def _spell(token: list[int], begins: list[int], texts: Sequence[str]) -> list[str]:
    stops = [*begins[1:], len(token)]
    return [
        "".join([texts[t] for t in token[start:stop]]).strip() or texts[token[start]]
        for start, stop in zip(begins, stops, strict=True)
    ]


def _vocabulary(spelled: list[str]) -> tuple[list[str], Ints]:
    """Distinct words in order of appearance, and the word of each occurrence."""
    forms = Counter(spelled)
    shown: dict[str, str] = {}
    for form, count in forms.items():
        folded = form.casefold()
        if folded not in shown or count > forms[shown[folded]]:
            shown[folded] = form
    ids = {folded: i for i, folded in enumerate(shown)}
    of_form = {form: ids[form.casefold()] for form in forms}
    return list(shown.values()), np.array([of_form[form] for form in spelled], dtype=np.int64)
