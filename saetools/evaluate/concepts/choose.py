"""Which concepts of labelled texts are measured, and on which texts; the model is not run here."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saetools.corpus import LabelledTexts
from saetools.errors import ConfigError

__all__ = [
    "MAX_CONCEPTS",
    "MIN_CELL",
    "MIN_TEXTS",
    "PER_CONCEPT",
    "Chosen",
    "cells",
    "choose_texts",
]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

MIN_TEXTS = 20
"""Texts that a concept needs, and that must lack it."""

MIN_CELL = 10
"""Texts that each of the four combinations of a pair of concepts needs."""

PER_CONCEPT = 500
"""Texts drawn of a concept at most, and of those without any."""

MAX_CONCEPTS = 12
"""Concepts measured at most, the most frequent ones."""


@dataclass(frozen=True)
class Chosen:
    """Concepts of one data set, and the texts that they are measured on.

    Args:
        name: of the data set.
        texts: positions of the texts in it, increasing, (n,).
        concepts: their names, most frequent first.
        member: which text has which concept, (n, n_concepts).
        pairs: pairs of concepts of which all four combinations are frequent, for scr.
    """

    name: str
    texts: Ints
    concepts: tuple[str, ...]
    member: Bools
    pairs: tuple[tuple[str, str], ...] = ()


def choose_texts(
    labelled: LabelledTexts,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    seed: int = 0,
) -> Chosen:
    """Choose the most frequent concepts, and up to 500 texts of each, of each pair's combination
    and of those without any.

    A concept needs 20 texts that have it and 20 that do not.

    Args:
        pairs: pairs of concepts to be sure of; none: the pair whose rarest combination is the most
            frequent, if it has ten texts.

    Raises:
        ConfigError: a combination of a named pair has fewer than ten texts.
        UnknownNameError: a named pair has a concept that no text has.
    """
    rng = np.random.default_rng([seed, 0xC0])
    named = [name for pair in pairs for name in pair]
    columns = {c: labelled.has(c) for c in dict.fromkeys([*named, *labelled.counts])}
    eligible = [c for c, has in columns.items() if MIN_TEXTS <= has.sum() <= len(has) - MIN_TEXTS]
    eligible.sort(key=lambda c: (c not in named, -int(columns[c].sum()), c))
    concepts = tuple(eligible[:MAX_CONCEPTS])
    member = np.zeros((len(labelled), len(concepts)), dtype=bool)
    for i, concept in enumerate(concepts):
        member[:, i] = columns[concept]
    chosen_pairs = tuple(pairs) or _best_pair(concepts, member)
    for pair in chosen_pairs:
        _check_pair(labelled, pair, concepts, member)
    groups = [*member.T, ~member.any(1), *_cells(chosen_pairs, concepts, member)]
    taken = [_draw(np.flatnonzero(group), rng) for group in groups]
    kept = np.unique(np.concatenate(taken)).astype(np.int64)
    return Chosen(labelled.name, kept, concepts, member[kept], chosen_pairs)


def cells(first: Bools, second: Bools) -> list[Bools]:
    """The four combinations of two concepts: both, only the first, only the second, neither."""
    return [first & second, first & ~second, ~first & second, ~first & ~second]


def _cells(pairs: Sequence[tuple[str, str]], concepts: Sequence[str], member: Bools) -> list[Bools]:
    at = concepts.index
    return [cell for a, b in pairs for cell in cells(member[:, at(a)], member[:, at(b)])]


def _best_pair(concepts: Sequence[str], member: Bools) -> tuple[tuple[str, str], ...]:
    """The pair whose rarest combination is the most frequent; none if it has too few texts."""
    best = MIN_CELL - 1
    found: tuple[tuple[str, str], ...] = ()
    for i, j in itertools.combinations(range(len(concepts)), 2):
        rarest = min(int(cell.sum()) for cell in cells(member[:, i], member[:, j]))
        if rarest > best:
            best, found = rarest, ((concepts[i], concepts[j]),)
    return found


def _check_pair(
    labelled: LabelledTexts, pair: tuple[str, str], concepts: Sequence[str], member: Bools
) -> None:
    sizes = [0] * 4
    if all(name in concepts for name in pair):
        sizes = [int(cell.sum()) for cell in _cells([pair], concepts, member)]
    if min(sizes) < MIN_CELL:
        a, b = pair
        raise ConfigError(
            f"the pair {a}, {b} of '{labelled.name}' needs {MIN_CELL} texts of each combination; "
            f"found both {sizes[0]}, only {a} {sizes[1]}, only {b} {sizes[2]}, neither {sizes[3]}"
            "; name another pair, or give more texts"
        )


def _draw(rows: Ints, rng: np.random.Generator) -> Ints:
    if len(rows) <= PER_CONCEPT:
        return rows
    return rng.choice(rows, PER_CONCEPT, replace=False)
