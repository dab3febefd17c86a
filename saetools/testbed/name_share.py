"""How many live latents have the right name, of those whose truth is known.

Right is a name that says the word of what its latent stands for. The control is the name of another
latent that stands for something else of the same sort: what chance gives.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saetools.testbed.latent_truth import WORD, LatentTruth

__all__ = ["SAYABLE", "NameShare", "name_share", "wilson"]

SAYABLE = ("entity", "kind", "value", "root", "branch", "leaf", "topic")
"""Planted layers whose labels a name can say: each is called by a word. Others (form, attribute,
sentiment, register) have no word that is right."""

_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class NameShare:
    """Latents of one sort: how many there are, are named, are named rightly, and by chance.

    Args:
        n: latents whose truth is of this sort.
        n_named: of these, those that have a name.
        n_right: of these, those whose name is right.
        n_swapped_right: of the named ones, those for which another latent's name would be right.
    """

    n: int
    n_named: int
    n_right: int
    n_swapped_right: int

    def as_json(self) -> dict[str, Any]:
        """Counts, and shares with their 95 % intervals (Wilson)."""
        return {
            "n": self.n,
            "n_named": self.n_named,
            "n_right": self.n_right,
            "n_swapped_right": self.n_swapped_right,
            "right_fraction": _share(self.n_right, self.n),
            "right_of_named": _share(self.n_right, self.n_named),
            "swapped_of_named": _share(self.n_swapped_right, self.n_named),
        }


def name_share(
    said: Mapping[int, Sequence[str]], truths: Mapping[int, LatentTruth]
) -> dict[str, NameShare]:
    """Compare names with the truth, of planted labels ("planted") and of plain words ("word").

    Args:
        said: the words that the name of each latent says; unnamed ones are left out and count as
            wrong.
        truths: what each latent stands for.
    """
    folded = {latent: {w.strip().casefold() for w in words} for latent, words in said.items()}
    return {
        "planted": _count(folded, [t for t in truths.values() if t.layer in SAYABLE]),
        "word": _count(folded, [t for t in truths.values() if t.layer == WORD]),
    }


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) of nothing."""
    if n == 0:
        return 0.0, 1.0
    share, extra = n_right / n, _Z**2 / n
    centre = (share + extra / 2) / (1 + extra)
    half = _Z * math.sqrt(share * (1 - share) / n + extra / (4 * n)) / (1 + extra)
    # Rounding may carry the ends past what a share can be.
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _share(n_right: int, n: int) -> dict[str, float | None]:
    low, high = wilson(n_right, n)
    return {"value": n_right / n if n else None, "low": low, "high": high}


def _count(said: Mapping[int, set[str]], truths: Sequence[LatentTruth]) -> NameShare:
    named = [truth for truth in truths if truth.latent in said]
    right = swapped = 0
    for i, truth in enumerate(named):
        word = truth.name.strip().casefold()
        right += word in said[truth.latent]
        other = _other(named, i)
        swapped += other is not None and word in said[other]
    return NameShare(len(truths), len(named), right, swapped)


def _other(named: Sequence[LatentTruth], i: int) -> int | None:
    """The next latent of the same layer that stands for something else."""
    mine = named[i]
    for other in (*named[i + 1 :], *named[:i]):
        if other.layer == mine.layer and other.name != mine.name:
            return other.latent
    return None
