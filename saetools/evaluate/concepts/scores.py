"""Two scores of a binary probe, on all texts and in each resample of the texts.

Weights say how often each text is drawn, (n_draws, n); the first row may be ones, for the texts as
they are. Both scores give each class the same weight, so 0.5 is chance whatever the balance.
"""

import numpy as np
import numpy.typing as npt

from saetools.evaluate.bootstrap import Floats, resample

__all__ = ["accuracy_draws", "auroc_draws", "draws_of", "spread"]

Bools = npt.NDArray[np.bool_]


def draws_of(n_texts: int, *, seed: int, n_draws: int = 100) -> Floats:
    """Weights of the texts: ones, then `n_draws` resamples; (n_draws + 1, n_texts)."""
    return np.vstack([np.ones((1, n_texts)), resample(n_texts, seed=seed, n_draws=n_draws)])


def auroc_draws(scores: Floats, positive: Bools, weights: Floats) -> Floats:
    """Chance that a positive text scores above a negative one, ties half; (n_draws,).

    NaN in a draw that lacks one of the classes.
    """
    gap = scores[positive][:, None] - scores[~positive][None, :]
    wins = (gap > 0) + 0.5 * (gap == 0)  # (n_positive, n_negative)
    up, down = weights[:, positive], weights[:, ~positive]
    return _ratio(((up @ wins) * down).sum(1), up.sum(1) * down.sum(1))


def accuracy_draws(scores: Floats, positive: Bools, weights: Floats) -> Floats:
    """Mean of the shares of both classes that lie on their side of 0; (n_draws,)."""
    right = ((scores > 0) == positive).astype(np.float64)
    up, down = weights[:, positive], weights[:, ~positive]
    of_positive = _ratio(up @ right[positive], up.sum(1))
    of_negative = _ratio(down @ right[~positive], down.sum(1))
    both: Floats = (of_positive + of_negative) / 2
    return both


def spread(draws: Floats) -> float:
    """Standard error from `draws_of`'s draws: the deviation of all but the first."""
    kept = draws[1:][np.isfinite(draws[1:])]
    return float(kept.std(ddof=1)) if len(kept) > 1 else float("nan")


def _ratio(above: Floats, below: Floats) -> Floats:
    found: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return found
