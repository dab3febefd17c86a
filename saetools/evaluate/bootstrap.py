"""Uncertainty over documents: how far a figure moves when documents are drawn anew.

Tokens of one document resemble each other, so documents are resampled, never tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "Estimate",
    "Floats",
    "interval",
    "jackknife_stderr",
    "mean_stderr",
    "ratio_stderr",
    "resample",
    "stderr",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its value in each resample, (n_draws,)."""

    value: float
    draws: Floats

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, self.draws - other.draws)

    @classmethod
    def of(cls, function: Callable[..., Floats], *parts: "Estimate") -> "Estimate":
        """A function of estimates, which are drawn together: `function` acts entry by entry."""
        with np.errstate(all="ignore"):
            value = float(function(*(np.float64(part.value) for part in parts)))
            return cls(value, np.asarray(function(*(part.draws for part in parts))))


def resample(n_docs: int, *, seed: int, n_draws: int = 200) -> Floats:
    """How often each document is drawn in each of `n_draws` resamples, shape (n_draws, n_docs)."""
    rng = np.random.default_rng([seed, 0xB007])
    return rng.multinomial(n_docs, np.full(n_docs, 1 / n_docs), size=n_draws).astype(np.float64)


def stderr(
    statistic: Callable[[Floats], Floats], n_docs: int, *, seed: int, n_draws: int = 200
) -> float:
    """Standard deviation of a statistic over resamples; NaN for fewer than two documents.

    Args:
        statistic: maps weights (n_draws, n_docs) to one value a draw.
    """
    if n_docs < 2:
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = statistic(resample(n_docs, seed=seed, n_draws=n_draws))
    known = draws[~np.isnan(draws)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def ratio_stderr(above: Floats, below: Floats, *, seed: int) -> float:
    """Standard error of Σ above / Σ below, both given a document."""
    return stderr(lambda w: (w @ above) / (w @ below), len(above), seed=seed)


def mean_stderr(values: Floats, *, seed: int) -> float:
    """Standard error of the mean over documents."""
    return ratio_stderr(values, np.ones_like(values), seed=seed)


def jackknife_stderr(replicates: Floats) -> float:
    """Standard error of a figure from its values with one group of documents left out each.

    For figures that drawing with replacement would bias, such as the share of latents that never
    fire: a third of the documents is missing from every resample (Efron and Stein 1981). NaN for
    fewer than two groups.

    Args:
        replicates: the figure without group g, shape (n_groups,).
    """
    n = len(replicates)
    if n < 2:
        return float("nan")
    return float(np.sqrt((n - 1) / n * np.square(replicates - replicates.mean()).sum()))


def interval(draws: Floats, *, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)
