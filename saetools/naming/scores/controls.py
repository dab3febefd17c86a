"""Which other names stand in for a name: one at random, and one by a fixed permutation."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from saetools.naming.base import Name
from saetools.naming.scores.base import Trial
from saetools.naming.scores.claims import same_claim

__all__ = ["trials_of"]

_DRAWS = 20
_SHIFTS = 16


def trials_of(names: Sequence[Name], pool: Sequence[Name], *, seed: int) -> list[Trial]:
    """Put two other latents' names of the same namer beside each name.

    The random one is drawn anew for each latent. The swapped one is fixed: the names of a namer,
    in the order of latents, turned by about half the list, so that no name stays in its place; of
    the turns nearest to half, the one under which the fewest names meet another that says the
    same. Where they do all the same, there is no swapped name.

    Args:
        names: the names to score.
        pool: all names, these included, from which the others are taken.
    """
    by_namer: dict[str, list[Name]] = defaultdict(list)
    for name in sorted(pool, key=lambda name: name.latent):
        by_namer[name.namer].append(name)
    turned = {namer: _turn(group) for namer, group in by_namer.items()}
    return [
        Trial(
            name,
            _random(name, by_namer.get(name.namer, []), seed),
            turned.get(name.namer, {}).get(name.latent),
        )
        for name in names
    ]


def _random(name: Name, group: Sequence[Name], seed: int) -> Name | None:
    rng = np.random.default_rng((seed, 1, name.latent))
    for place in rng.integers(len(group), size=_DRAWS).tolist() if group else []:
        other: Name = group[place]
        if other.latent != name.latent and not same_claim(name, other):
            return other
    return None


def _turn(group: Sequence[Name]) -> dict[int, Name]:
    n = len(group)
    shifts = [n // 2 + step for step in range(min(_SHIFTS, n - n // 2)) if n // 2 + step > 0]
    best: dict[int, Name] = {}
    for shift in shifts:
        pairs = [(name, group[(i + shift) % n]) for i, name in enumerate(group)]
        found = {a.latent: b for a, b in pairs if not same_claim(a, b)}
        if len(found) > len(best):
            best = found
        if len(best) == n:
            break
    return best
