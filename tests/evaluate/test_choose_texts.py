"""Which concepts and texts are measured: frequent ones, within limits, pairs where they exist."""

import numpy as np
import pytest

from saetools.corpus import LabelledTexts
from saetools.errors import ConfigError, UnknownNameError
from saetools.evaluate.concepts import choose_texts
from saetools.evaluate.concepts.choose import MAX_CONCEPTS, PER_CONCEPT


def _labelled(counts: dict[str, int]) -> LabelledTexts:
    """Texts with the concepts that are spelled by a key's letters; "-" for none."""
    labels = [frozenset(key.strip("-")) for key, n in counts.items() for _ in range(n)]
    return LabelledTexts(("x",) * len(labels), tuple(labels), "letters")


def test_a_concept_needs_twenty_texts_with_and_without() -> None:
    chosen = choose_texts(_labelled({"a": 40, "b": 20, "c": 19, "-": 5}))
    assert chosen.concepts == ("a", "b")
    assert choose_texts(_labelled({"a": 40, "-": 19})).concepts == ()


def test_texts_of_a_concept_are_drawn_up_to_the_limit() -> None:
    chosen = choose_texts(_labelled({"a": 2000, "b": 700, "-": 900}))
    assert chosen.member.sum(0).tolist() == [PER_CONCEPT, PER_CONCEPT]
    assert (~chosen.member.any(1)).sum() == PER_CONCEPT
    again = choose_texts(_labelled({"a": 2000, "b": 700, "-": 900}))
    other = choose_texts(_labelled({"a": 2000, "b": 700, "-": 900}), seed=1)
    np.testing.assert_array_equal(chosen.texts, again.texts)
    assert (chosen.texts != other.texts).any()


def test_the_most_frequent_concepts_are_kept() -> None:
    chosen = choose_texts(_labelled({chr(97 + i): 20 + i for i in range(20)}))
    assert chosen.concepts == tuple(chr(97 + i) for i in range(19, 19 - MAX_CONCEPTS, -1))


def test_the_pair_with_the_most_texts_in_every_combination_is_found() -> None:
    counts = {"a": 40, "b": 40, "c": 40, "ab": 12, "bc": 30, "-": 100}
    assert choose_texts(_labelled(counts)).pairs == (("b", "c"),)
    assert choose_texts(_labelled({"a": 40, "b": 40, "ab": 9, "-": 30})).pairs == ()


def test_a_named_pair_is_taken_even_if_rare() -> None:
    counts = {**dict.fromkeys("cdefghijklmn", 100), "a": 20, "b": 20, "ab": 10}
    chosen = choose_texts(_labelled(counts), pairs=[("a", "b")])
    assert chosen.pairs == (("a", "b"),)
    assert {"a", "b"} <= set(chosen.concepts)


def test_a_pair_that_cannot_be_measured_says_how_many_there_are() -> None:
    labelled = _labelled({"a": 40, "b": 40, "ab": 3, "-": 30})
    with pytest.raises(ConfigError, match="both 3, only a 40, only b 40, neither 30"):
        choose_texts(labelled, pairs=[("a", "b")])
    with pytest.raises(UnknownNameError, match="the concept 'z'"):
        choose_texts(labelled, pairs=[("a", "z")])
