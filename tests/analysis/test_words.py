"""Words come back from wordpieces, with the word before each."""

import numpy as np

from saetools.analysis.words import rebuild_words

_TEXTS = [" The", " draw", "ing", "er", ".", " the", " foo", "(", "bar", " foo"]
_STARTS = np.array([text.startswith(" ") for text in _TEXTS])


def _words(token, doc):
    words = rebuild_words(
        np.array(token), texts=_TEXTS, starts=_STARTS, doc=np.array(doc, dtype=np.int32)
    )
    spelled = [words.strings[w] for w in words.word]
    return spelled, [words.strings[w] if w >= 0 else None for w in words.previous]


def test_pieces_are_joined_and_cases_are_one_word():
    spelled, previous = _words([0, 1, 2, 3, 4, 5, 5], [0] * 7)
    assert spelled == ["the", "drawinger", "drawinger", "drawinger", ".", "the", "the"]
    assert previous == [None, "the", "the", "the", "drawinger", ".", "the"]


def test_a_word_ends_at_punctuation_and_at_the_document():
    spelled, previous = _words([6, 7, 8, 2, 3], [0, 0, 0, 1, 1])
    assert spelled == ["foo", "(", "bar", "inger", "inger"]
    assert previous == [None, "foo", "(", None, None]


def test_no_rows_are_no_words():
    assert _words([], []) == ([], [])
