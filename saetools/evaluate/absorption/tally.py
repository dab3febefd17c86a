"""What several concepts add up to, kept by document so that an uncertainty can be drawn from it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from saetools.evaluate.absorption.reading import ItemTable, Reading
from saetools.evaluate.bootstrap import Floats, stderr

__all__ = ["MIN_F1", "MIN_ITEMS", "Tally"]

MIN_F1 = 0.6
MIN_ITEMS = 20

_SUMS = ("items", "right", "full", "fraction", "hole")


@dataclass
class Tally:
    """Sums over tokens on which a concept is on, by unit (document or word) and concept.

    Args:
        readings: how each concept is read.
        names: of the concepts.
        n_units: number of documents, or of words.
    """

    readings: tuple[Reading, ...]
    names: tuple[str, ...]
    n_units: int
    sums: dict[str, Floats] = field(init=False)
    confusion: Floats = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.n_units, len(self.readings))
        self.sums = {name: np.zeros(shape) for name in _SUMS}
        self.confusion = np.zeros((3, len(self.readings)))  # true positives, fired, on

    def add(self, concept: int, unit: npt.NDArray[np.int64], items: ItemTable) -> None:
        """Add tokens on which a concept is on; `unit` says whose they are, (n,)."""
        values = {
            "items": np.ones(len(unit)),
            "right": items.right,
            "full": items.full & items.right,
            "fraction": items.fraction * items.right,
            "hole": items.hole,
        }
        for name, found in values.items():
            self.sums[name][:, concept] += np.bincount(unit, found, minlength=self.n_units)

    def see(self, concept: int, said: npt.NDArray[np.bool_], on: npt.NDArray[np.bool_]) -> None:
        """Count what the concept's probe says of rows with and without it."""
        self.confusion[:, concept] += ((said & on).sum(), said.sum(), on.sum())

    @property
    def f1(self) -> Floats:
        """F1 of each concept's probe on the rows that it saw."""
        both, fired, on = self.confusion
        f1: Floats = 2 * both / np.maximum(fired + on, 1)
        return f1

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Concepts whose probe has F1 of at least 0.6, with 20 tokens and one that it has right."""
        items, right = (self.sums[name].sum(0) for name in ("items", "right"))
        usable: npt.NDArray[np.bool_] = (self.f1 >= MIN_F1) & (items >= MIN_ITEMS) & (right > 0)
        return usable

    def why_not(self) -> str | None:
        """Why nothing can be said; None if at least one concept is usable."""
        if self.usable.any():
            return None
        items = self.sums["items"].sum(0)
        rows = ", ".join(
            f"{name}: F1 {f1:.2f}, {int(n)} tokens"
            for name, f1, n in list(zip(self.names, self.f1, items, strict=True))[:5]
        )
        return (
            f"none of {len(self.names)} concepts has a probe with F1 of at least {MIN_F1} and "
            f"{MIN_ITEMS} tokens to test on ({rows}); the activations do not hold them linearly, "
            "or there are too few documents"
        )

    def rate(self, above: str, below: str, *, seed: int) -> tuple[float, float]:
        """Mean over usable concepts of Σ above / Σ below, and its standard error over units."""
        top, bottom = (self.sums[name][:, self.usable] for name in (above, below))
        seen = self.sums["items"][:, self.usable].any(1)

        def statistic(weight: Floats) -> Floats:
            ratios = (weight @ top[seen]) / (weight @ bottom[seen])  # (n_draws, concepts)
            known = ~np.isnan(ratios)
            total: Floats = np.where(known, ratios, 0.0).sum(1) / known.sum(1)
            return total

        whole = statistic(np.ones((1, int(seen.sum()))))[0]
        found: Callable[[Floats], Floats] = statistic
        return float(whole), stderr(found, int(seen.sum()), seed=seed)
