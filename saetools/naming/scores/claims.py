"""What a name says about words and labels, as a set of held-out tokens: [[E]] of card "rigour".

A name of words claims the tokens of those words (or after, or before them); a name with a label
claims the tokens of documents of that label; with both, tokens that are in both. A name of neither
claims nothing, and only a judge or an experiment can test it.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from saetools.naming.base import Name
from saetools.naming.scores.held_out import HeldOut

__all__ = ["Claims", "claims_something", "same_claim"]

Ints = npt.NDArray[np.int64]


def claims_something(name: Name) -> bool:
    """Whether a name says on which tokens its latent fires."""
    return bool(name.unit is not None and name.words) or _label(name) is not None


def same_claim(one: Name, other: Name) -> bool:
    """Whether two names say the same, in words and as text."""
    return _key(one) == _key(other) or one.name.casefold() == other.name.casefold()


class Claims:
    """Finds the held-out tokens that a name claims.

    Args:
        held_out: the documents.
    """

    def __init__(self, held_out: HeldOut) -> None:
        self._held_out = held_out

    def rows(self, name: Name) -> Ints:
        """Rows of the held-out documents on which the latent should fire, increasing."""
        label = _label(name)
        if name.unit is None or not name.words:
            return self._of_label(label) if label is not None else np.zeros(0, dtype=np.int64)
        rows = self._of_unit(name.unit, name.words)
        if label is not None:
            rows = np.intersect1d(rows, self._of_label(label))
        return rows

    def _of_unit(self, unit: str, words: tuple[str, ...]) -> Ints:
        if unit == "bigram":
            found = [self._pair(*pair.rsplit(" ", 1)) for pair in words if " " in pair]
        else:
            find = self._lists[unit]
            found = [find(self._id(word)) for word in words]
        return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *found]))

    def _pair(self, before: str, word: str) -> Ints:
        rows = self._lists["word"](self._id(word))
        after: Ints = rows[self._held_out.words.previous[rows] == self._id(before)]
        return after

    def _of_label(self, label: str) -> Ints:
        docs = [d for d in self._held_out.docs.tolist() if self._held_out.label[d] == label]
        return np.flatnonzero(np.isin(self._held_out.doc, docs))

    def _id(self, word: str) -> int:
        """The word's number in the held-out documents, -2 if it does not occur."""
        return self._ids.get(word.casefold(), -2)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word.casefold(): i for i, word in enumerate(self._held_out.words.strings)}

    @cached_property
    def _lists(self) -> dict[str, Callable[[int], Ints]]:
        return {
            "word": _inverted(self._held_out.words.word),
            "previous": _inverted(self._held_out.words.previous),
            "next": _inverted(self._held_out.words.next),
        }


def _inverted(unit: npt.NDArray[np.integer]) -> Callable[[int], Ints]:
    """A function that gives the rows of a unit, increasing."""
    order = np.argsort(unit, kind="stable")
    ordered = unit[order]

    def rows(wanted: int) -> Ints:
        first, last = np.searchsorted(ordered, [wanted, wanted + 1])
        return order[first:last]

    return rows


def _label(name: Name) -> str | None:
    return getattr(name, "label", None)


def _key(name: Name) -> tuple[object, ...]:
    return (
        name.unit,
        frozenset(word.casefold() for word in name.words),
        _label(name),
        ("" if claims_something(name) else name.name.casefold()),
    )
