"""Entities (or texts) drawn anew: the uncertainty of everything that is asked about them.

Questions about one entity stand or fall together, so entities are resampled, never questions; where
all are about one entity, its facts are. One set of draws serves all models, so that differences
between models are paired. Of a single unit nothing can be drawn anew: its draws are NaN.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from saetools.corpus import Question
from saetools.evaluate.bootstrap import Estimate, Floats, resample

__all__ = ["Draws", "question_draws"]

Ints = npt.NDArray[np.int64]


class Draws:
    """Resamples of units, to which values belong.

    Args:
        units: the unit of each value, as a number from 0, shape (n,).
        stream: name of the group; groups of different names are drawn independently.
        n_draws: number of resamples.
        seed: of the resamples.
    """

    def __init__(self, units: Ints, *, stream: str, n_draws: int, seed: int) -> None:
        self.units = units
        self.n_units = int(units.max(initial=-1)) + 1
        self.weights: Floats = resample(
            max(self.n_units, 1), seed=seed + zlib.crc32(stream.encode()), n_draws=n_draws
        )  # (n_draws, n_units)

    def ratio(self, above: npt.ArrayLike, below: npt.ArrayLike) -> Estimate:
        """Σ above / Σ below; NaN where nothing was drawn."""
        top, bottom = self._by_unit(above), self._by_unit(below)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = float(np.float64(top.sum()) / bottom.sum())
            draws = (self.weights @ top) / (self.weights @ bottom)
        return Estimate(value, draws if self.n_units > 1 else np.full_like(draws, np.nan))

    def mean(self, values: npt.ArrayLike, *, where: npt.ArrayLike | None = None) -> Estimate:
        """Mean over the values, or over those of them that `where` is true of."""
        numbers = np.asarray(values, dtype=np.float64)
        chosen = np.ones(len(numbers)) if where is None else np.asarray(where, dtype=np.float64)
        return self.ratio(np.where(chosen > 0, numbers, 0.0), chosen)

    def _by_unit(self, values: npt.ArrayLike) -> Floats:
        numbers = np.asarray(values, dtype=np.float64)
        sums = np.bincount(self.units, weights=numbers, minlength=max(self.n_units, 1))
        return sums.astype(np.float64)


def question_draws(questions: Sequence[Question], *, stream: str, n_draws: int, seed: int) -> Draws:
    """Draws of the entities of questions; a question without an entity is a unit of its own."""
    keys = [question.entity or f"question {i}" for i, question in enumerate(questions)]
    if len(set(keys)) == 1:
        keys = [question.attribute or f"question {i}" for i, question in enumerate(questions)]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    units = np.array([number[key] for key in keys], dtype=np.int64)
    return Draws(units, stream=stream, n_draws=n_draws, seed=seed)
