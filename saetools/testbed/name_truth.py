"""Whether the names of latents are right, where the truth is known.

A concept with a word of its own (an entity, a value, a level) is named rightly if that word is
among the first words that the name of its latent claims. The control takes the name of another
concept's latent of the same sort: what a name says by chance.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from saetools.testbed.concept_recovery import ConceptRecovery, FoundConcept

__all__ = ["NameTruth", "name_truth"]

_WORDS = ("entity", "value", "root", "branch", "leaf")


class NameTruth(NamedTuple):
    """Share of recovered concepts whose latent has the right name, and of the control; 0 to 1."""

    n_concepts: int
    n_named: int
    right_fraction: float
    swapped_fraction: float


def name_truth(
    recovery: ConceptRecovery,
    words: Mapping[int, Sequence[str]],
    *,
    least: float = 0.9,
    n_first: int = 3,
) -> NameTruth:
    """Compare names with the truth, over the recovered concepts that have a word.

    Args:
        recovery: which latent is whose.
        words: the words that the name of each latent claims, best first; unnamed ones are left out,
            and count as wrong.
        least: AUROC from which a concept counts as recovered.
        n_first: words of a name that are looked at.
    """
    asked = [found for found in recovery.recovered(least=least) if found.layer in _WORDS]
    right = swapped = named = 0
    for i, found in enumerate(asked):
        named += bool(words.get(found.latent))
        right += _says(words.get(found.latent, ()), found.name, n_first)
        other = _other(asked, i)
        swapped += other is not None and _says(words.get(other.latent, ()), found.name, n_first)
    n = len(asked)
    return NameTruth(n, named, right / n if n else 0.0, swapped / n if n else 0.0)


def _says(words: Sequence[str], truth: str, n_first: int) -> bool:
    return truth.casefold() in [word.strip().casefold() for word in words[:n_first]]


def _other(asked: Sequence[FoundConcept], i: int) -> FoundConcept | None:
    """The next concept of the same sort that has another latent."""
    mine = asked[i]
    for other in (*asked[i + 1 :], *asked[:i]):
        if other.layer == mine.layer and other.latent != mine.latent:
            return other
    return None
