"""Figures of a decision: balanced accuracy, F1, AUC, correlation, each with its interval.

Shares get Wilson's interval, which is not empty at 0 and 1; half the sum of two shares gets the
one that Zou and Donner (2008) make of theirs; everything else is resampled.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

__all__ = ["Figure", "agreement", "area", "bootstrap", "correlation", "wilson"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
_Z = 1.959963984540054  # 95 %
_NONE = float("nan")


class Figure(NamedTuple):
    """One measured number with its 95 % interval, and what else was measured on the way.

    Args:
        value, low, high: the number; nan if it cannot be told.
        n_positive, n_negative: cases of each kind behind it.
        details: further figures by name.
    """

    value: float
    low: float
    high: float
    n_positive: int
    n_negative: int
    details: dict[str, float]


def wilson(hits: float, n: float) -> tuple[float, float]:
    """95 % interval of a share of `n` cases (Wilson 1927); (nan, nan) of none."""
    if n <= 0:
        return _NONE, _NONE
    share, z2 = hits / n, _Z**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def agreement(fires: Bools, score: Floats) -> Figure:
    """How well `score` (0 to 1, yes from 0.5 on) tells where a latent fires.

    The value is balanced accuracy: the mean of the share of yes where it fires and of no where it
    does not; 0.5 is chance. Cases whose score is nan were not answered and do not count.
    """
    answered = ~np.isnan(score)
    n_unanswered = int((~answered).sum())
    fires, score = fires[answered], score[answered]
    yes = score >= 0.5
    tp, fp = int((yes & fires).sum()), int((yes & ~fires).sum())
    n_pos, n_neg = int(fires.sum()), int((~fires).sum())
    details = {
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, n_pos),
        "f1": _ratio(2 * tp, tp + fp + n_pos),
        "auc": area(fires, score),
        "n_unanswered": float(n_unanswered),
    }
    value = (_ratio(tp, n_pos) + _ratio(n_neg - fp, n_neg)) / 2
    low, high = _mean_of_two(tp, n_pos, n_neg - fp, n_neg)
    return Figure(value, low, high, n_pos, n_neg, details)


def area(fires: Bools, score: Floats) -> float:
    """AUC: the chance that a case where it fires scores above one where it does not; ties half."""
    n_pos, n_neg = int(fires.sum()), int((~fires).sum())
    if not n_pos or not n_neg:
        return _NONE
    ranks = rankdata(score)
    return float((ranks[fires].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def correlation(predicted: Floats, real: Floats) -> float:
    """Pearson's r; 0 if the prediction is the same everywhere, nan if what is predicted is."""
    if len(real) < 2 or float(np.ptp(real)) == 0:
        return _NONE
    if float(np.ptp(predicted)) == 0:
        return 0.0
    return float(np.corrcoef(predicted, real)[0, 1])


def bootstrap(
    n: int, figure: Callable[[npt.NDArray[np.int64]], float], *, seed: int, n_draws: int = 200
) -> tuple[float, float]:
    """95 % interval of a figure of `n` cases, by drawing them anew with replacement.

    Args:
        figure: the figure of the cases with these numbers (n,).
    """
    if n < 2:
        return _NONE, _NONE
    rng = np.random.default_rng(seed)
    drawn = np.array([figure(rng.integers(n, size=n)) for _ in range(n_draws)])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return _NONE, _NONE
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _mean_of_two(hits_a: int, n_a: int, hits_b: int, n_b: int) -> tuple[float, float]:
    """Interval of the mean of two independent shares, from their Wilson intervals."""
    a, b = _ratio(hits_a, n_a), _ratio(hits_b, n_b)
    (low_a, high_a), (low_b, high_b) = wilson(hits_a, n_a), wilson(hits_b, n_b)
    below = math.hypot(a - low_a, b - low_b) / 2
    above = math.hypot(high_a - a, high_b - b) / 2
    return (a + b) / 2 - below, (a + b) / 2 + above


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else _NONE
