"""Strings made from what a name claims, run through the model: does the latent fire on them?

A claimed word is put in the place of the middle word of a held-out context, where the latent was
silent, and the SAE reads what the model makes of it. So E is tried beyond the places where the
corpus happens to have it. Names of labels alone make no such strings.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from saetools.intervene import Site
from saetools.intervene.base import find_site
from saetools.naming.base import Name
from saetools.naming.scores.context import ScoringContext
from saetools.naming.scores.evidence import ACTIVATING
from saetools.naming.scores.running import activations_on, ids_of

__all__ = ["substituted"]

Ints = npt.NDArray[np.int64]


class _String(NamedTuple):
    """Token ids of a text, and the places of the word on which the latent should fire."""

    ids: list[int]
    first: int
    last: int


def substituted(
    name: Name, context: ScoringContext, *, n: int, threshold: float
) -> dict[str, float]:
    """Share of `n` made strings of a name on which its latent stays silent (type II), and how many.

    Args:
        threshold: activation above which the latent fires.
    """
    model, sae = context.need("model", "observational"), context.need("sae", "observational")
    site = find_site(model, sae)
    strings = list(_strings(name, context, site, n))
    if not strings:
        return {"type_2_substituted": float("nan"), "n_substituted": 0.0}
    tokens = model.tokenize([string.ids for string in strings])
    acts = activations_on(site, tokens, name.latent)
    content = tokens.content.cpu()
    fires = []
    for row, inside, string in zip(acts, content, strings, strict=True):
        word = row[inside][string.first : string.last]
        fires.append(bool((word > threshold).any()))
    return {
        "type_2_substituted": 1 - float(np.mean(fires)),
        "n_substituted": float(len(fires)),
    }


def _strings(name: Name, context: ScoringContext, site: Site, n: int) -> Iterator[_String]:
    if name.unit is None or not name.words:
        return
    evidence = context.contexts(name.latent)
    if isinstance(evidence, str):
        return
    silent = evidence.take(evidence.kind != ACTIVATING)
    held_out = context.held_out
    for i in range(min(n, len(silent.centre))):
        rows = silent.rows[i][silent.rows[i] >= 0]
        middle = np.flatnonzero(held_out.occurrence[rows] == held_out.occurrence[silent.centre[i]])
        before, after = rows[: middle[0]], rows[middle[-1] + 1 :]
        unit, word = name.unit, name.words[i % len(name.words)]
        parts = _around(unit, word, held_out.text_of(before), held_out.text_of(after))
        ids = [ids_of(site.model, part, first=not k) for k, part in enumerate(parts)]
        first = len(ids[0])
        if ids[1]:
            yield _String([*ids[0], *ids[1], *ids[2]], first, first + len(ids[1]))


def _around(unit: str, word: str, before: str, after: str) -> tuple[str, str, str]:
    """A text in three parts; the latent should fire on the middle one."""
    follower, _, rest = after.partition(" ")
    *lead, leader = before.split(" ")
    if unit == "previous":
        return f"{before} {word}".strip(), follower, rest
    if unit == "next":
        return " ".join(lead), leader, f"{word} {after}".strip()
    if unit == "bigram":
        first, _, second = word.partition(" ")
        return f"{before} {first}".strip(), second, after
    return before, word, after
