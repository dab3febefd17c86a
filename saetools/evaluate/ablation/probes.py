"""Fresh linear probes and what they can read, with intervals from resampled held-out documents.

One set of resamples serves all conditions, so differences between conditions are paired.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from saetools.evaluate.bootstrap import Estimate, Floats

__all__ = ["Resamples", "fit_concept_probe", "fit_label_probe"]

_C_GRID = (1e-3, 1e-2, 1e-1, 1.0)
_C_LABELS = 0.1
_FOLDS = 3

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.float32]


class Resamples:
    """Held-out documents drawn anew, the concept's and the others each among themselves."""

    def __init__(self, positive: Bools, *, n_draws: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 0xB])
        self._positive = positive
        self._weight = np.empty((n_draws, len(positive)))  # (n_draws, n); sums to 1 in each class
        for side in (positive, ~positive):
            n = int(side.sum())
            self._weight[:, side] = rng.multinomial(n, np.full(n, 1 / n), size=n_draws) / n

    def auroc(self, scores: Floats) -> Estimate:
        """Chance that a document of the concept scores above another one; ties count half."""
        gap = scores[self._positive][:, None] - scores[~self._positive][None, :]
        wins = (gap > 0) + 0.5 * (gap == 0)  # (n_pos, n_neg)
        draws = ((self._weight[:, self._positive] @ wins) * self._weight[:, ~self._positive]).sum(1)
        return Estimate(float(wins.mean()), draws)

    def balanced_accuracy(self, scores: Floats) -> Estimate:
        """Mean of the shares of both classes that lie on their side of 0."""
        right = (scores > 0) == self._positive
        whole = (right[self._positive].mean() + right[~self._positive].mean()) / 2
        return Estimate(float(whole), self._weight @ right / 2)

    def mean(self, values: Floats, which: Bools) -> Estimate:
        """Mean over the documents `which`."""
        weight = self._weight * which
        total = weight.sum(1)
        draws = np.divide(weight @ values, total, out=np.full(len(total), np.nan), where=total > 0)
        return Estimate(float(values[which].mean()), draws)


def fit_concept_probe(x: Rows, positive: Bools, *, seed: int) -> Pipeline:
    """Train a standardised logistic probe, both classes of equal weight.

    The penalty is chosen among four by three-fold cross-validated AUROC on the same documents, or
    set to a middle value where the concept has fewer than six.
    """
    if min(positive.sum(), (~positive).sum()) < 2 * _FOLDS:
        return _fit(x, positive, C=_C_GRID[1])
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    scores = np.zeros(len(_C_GRID))
    for train, test in folds.split(x, positive):
        for i, C in enumerate(_C_GRID):
            probe = _fit(x[train], positive[train], C=C)
            scores[i] += roc_auc_score(positive[test], probe.decision_function(x[test]))
    return _fit(x, positive, C=_C_GRID[int(scores.argmax())])  # the strongest penalty wins a tie


def fit_label_probe(x: Rows, labels: npt.NDArray[Any]) -> Pipeline:
    """Train a standardised multi-class logistic probe with a fixed penalty."""
    return _fit(x, labels, C=_C_LABELS)


def _fit(x: Rows, y: npt.NDArray[Any], *, C: float) -> Pipeline:
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=C, class_weight="balanced", max_iter=1000)
    )
    with warnings.catch_warnings():
        # A probe that has not quite converged is still a probe; its held-out score says how good.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return probe.fit(x, y)
