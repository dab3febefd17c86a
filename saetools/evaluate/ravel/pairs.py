"""Pairs of entities to exchange: a base, whose prompt is run, and a source, that is put into it.

*Cause* pairs ask the base for the attribute that is exchanged: right is the source's answer.
*Isolation* pairs ask it for another one: right is the base's own, although the source has another.
"""

from collections import defaultdict
from typing import Literal, NamedTuple

import numpy as np

from saetools.evaluate.ravel.facts import Fact

__all__ = ["Kind", "Pair", "attribute_pairs", "split_entities"]

Kind = Literal["cause", "isolation"]
_TRIES = 20


class Pair(NamedTuple):
    """Indices of base and source among the facts, what the answer should be, and which kind."""

    base: int
    source: int
    answer: int
    kind: Kind


def split_entities(
    facts: tuple[Fact, ...], *, train_fraction: float, seed: int
) -> tuple[set[str], set[str]]:
    """Entities to find masks on, and entities to measure on."""
    names = sorted({fact.question.entity for fact in facts})
    order = np.random.default_rng([seed, 0xE117]).permutation(len(names))
    n_train = round(train_fraction * len(names))
    return {names[i] for i in order[:n_train]}, {names[i] for i in order[n_train:]}


def attribute_pairs(
    facts: tuple[Fact, ...], attribute: str, entities: set[str], *, n: int, seed: int
) -> list[Pair]:
    """At most `n` pairs that exchange an attribute, half of each kind, each drawn once."""
    rng = np.random.default_rng([seed, 0x9A12, len(entities), *attribute.encode()])
    inside = [i for i, fact in enumerate(facts) if fact.question.entity in entities]
    sources = [i for i in inside if facts[i].question.attribute == attribute]
    others = [i for i in inside if facts[i].question.attribute != attribute]
    answers = _answers(facts)
    pairs = _drawn(facts, sources, sources, "cause", answers, n // 2, rng)
    return pairs + _drawn(facts, others, sources, "isolation", answers, n // 2, rng)


def _drawn(
    facts: tuple[Fact, ...],
    bases: list[int],
    sources: list[int],
    kind: Kind,
    answers: dict[tuple[str, str], set[int]],
    n: int,
    rng: np.random.Generator,
) -> list[Pair]:
    found: dict[tuple[int, int], Pair] = {}
    if not bases or not sources:
        return []
    for _ in range(_TRIES * n):
        if len(found) >= n:
            break
        base, source = bases[rng.integers(len(bases))], sources[rng.integers(len(sources))]
        own, other = facts[base], facts[source]
        asked = own.question.attribute
        # Where both have one answer, exchanging or keeping it looks the same.
        if own.answer in answers[other.question.entity, asked]:
            continue
        right = other.answer if kind == "cause" else own.answer
        found[base, source] = Pair(base, source, right, kind)
    return list(found.values())


def _answers(facts: tuple[Fact, ...]) -> dict[tuple[str, str], set[int]]:
    """First tokens of the answers of each entity and attribute, over all forms of asking."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for fact in facts:
        found[fact.question.entity, fact.question.attribute].add(fact.answer)
    return found
