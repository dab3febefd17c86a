"""How far each latent parts two classes of texts, in resamples of the texts, for all latents.

AUROC: the chance that a text of the class has a larger pooled activation than one of the other,
ties half; 0.5 is chance, below it the latent speaks against the class. The standardised difference
is (mean⁺ − mean⁻) / s, s² the mean of the two variances (Cohen's d for classes of equal weight).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.evaluate.bootstrap import Floats

__all__ = ["auroc_of_latents", "class_draws", "difference_of_latents"]

Bools = npt.NDArray[np.bool_]


def class_draws(positive: Bools, *, seed: int, n_draws: int) -> Floats:
    """Weights of texts: ones, then resamples within each class, (n_draws + 1, n_texts).

    Within classes, since how many texts each has was chosen by whoever gave them.
    """
    rng = np.random.default_rng([seed, 0xC1A5])
    weights = np.ones((n_draws + 1, len(positive)))
    for side in (positive, ~positive):
        n = int(side.sum())
        weights[1:, side] = rng.multinomial(n, np.full(n, 1 / n), size=n_draws)
    return weights


def auroc_of_latents(latents: Any, positive: Bools, weights: Floats) -> Floats:
    """AUROC of each latent in each draw, (n_draws, n_latents); work grows with what fires.

    Args:
        latents: pooled activations, none of them negative, scipy CSC (n_texts, n_latents).
    """
    up, down = weights * positive, weights * ~positive
    pairs = up.sum(1) * down.sum(1)
    found = np.full((len(weights), latents.shape[1]), 0.5)
    for latent in np.flatnonzero(np.diff(latents.indptr)):
        entries = slice(latents.indptr[latent], latents.indptr[latent + 1])
        rows, values = latents.indices[entries], latents.data[entries]
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)
        above = np.add.reduceat(up[:, rows[order]], starts, axis=1)  # (n_draws, distinct values)
        below = np.add.reduceat(down[:, rows[order]], starts, axis=1)
        silent_up, silent_down = up.sum(1) - above.sum(1), down.sum(1) - below.sum(1)
        lower = silent_down[:, None] + np.cumsum(below, axis=1) - below / 2
        wins = (above * lower).sum(1) + silent_up * silent_down / 2
        found[:, latent] = wins / pairs
    return found


def difference_of_latents(latents: Any, positive: Bools, weights: Floats) -> Floats:
    """Standardised mean difference of each latent in each draw, (n_draws, n_latents).

    0 where a latent is the same in all texts of a draw; infinite where it is one number in each
    class, and not the same.
    """
    squares = latents.multiply(latents).tocsr()
    rows = latents.tocsr()
    moments = []
    for side in (positive, ~positive):
        share = weights * side / (weights * side).sum(1, keepdims=True)
        mean = np.asarray((rows.T @ share.T).T)
        moments.append((mean, np.asarray((squares.T @ share.T).T) - mean**2))
    (mean_up, var_up), (mean_down, var_down) = moments
    std = np.sqrt(np.maximum((var_up + var_down) / 2, 0.0))
    gap = mean_up - mean_down
    tiny = 1e-6 * np.maximum(np.abs(mean_up), np.abs(mean_down))
    limit = np.where(gap == 0, 0.0, np.copysign(np.inf, gap))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.where(std > tiny, gap / std, limit)
    return found
