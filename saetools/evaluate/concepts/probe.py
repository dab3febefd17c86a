"""Linear probes of one concept, scored only on texts that no step of their making saw.

The texts are cut into five outer folds. For each, everything happens on the other four: the choice
of units by |mean⁺ − mean⁻|, their scale, the penalty (by three inner folds) and the fit; then the
left-out texts get their scores. So nothing is selected on a text that it is tested on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.model_selection import StratifiedKFold

from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.concepts.logistic import fit_logistic, logits
from saetools.evaluate.concepts.scores import auroc_draws

__all__ = ["Held", "Units", "concept_rows", "cross_fit", "difference_scores", "logistic_scores"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Units: TypeAlias = Any
"""One row a text: a float32 array of neurons, or a scipy CSR matrix (untyped) of latents."""

_FOLDS = 5
_INNER_FOLDS = 3
_C_GRID = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Held:
    """Scores of texts by probes that did not see them.

    Args:
        scores: above 0 says that the text has the concept, (n,).
        folds: positions of the texts of each fold; scores are comparable within a fold.
        first: the unit with the largest |mean⁺ − mean⁻| in each fold's training texts, (n_folds,).
    """

    scores: Floats
    folds: tuple[Ints, ...]
    first: Ints

    def draws(self, score: Callable[..., Floats], positive: Bools, weights: Floats) -> Floats:
        """A score of `saetools.evaluate.concepts.scores`, averaged over folds; (n_draws,)."""
        found = [score(self.scores[f], positive[f], weights[:, f]) for f in self.folds]
        mean: Floats = np.mean(found, axis=0)
        return mean


def concept_rows(member: Bools, *, most: int, seed: int) -> Ints:
    """All texts with a concept, and as many without it (at most `most` of each), in order."""
    rng = np.random.default_rng([seed, 0xBA])
    sides = [np.flatnonzero(member), np.flatnonzero(~member)]
    n = min(most, *map(len, sides))
    rows: Ints = np.sort(np.concatenate([rng.choice(side, n, replace=False) for side in sides]))
    return rows


def cross_fit(units: Units, positive: Bools, *, k: int | None, seed: int) -> Held:
    """Score every text by a logistic probe on the `k` best units of the other folds' texts.

    Args:
        units: rows of the texts.
        k: number of units; None: all.
        seed: of the folds.
    """
    return _outer(units, positive, seed, lambda *part: logistic_scores(*part, k=k, seed=seed))


def difference_scores(units: Units, positive: Bools, *, seed: int) -> Held:
    """Score every text along the difference of the classes' means, zero half way between them."""
    return _outer(units, positive, seed, _along_difference)


def logistic_scores(
    train: Units, positive: Bools, test: Units, *, k: int | None, seed: int
) -> Floats:
    """Choose `k` units and a penalty on `train`, fit there, and score `test`; (n_test,)."""
    if k is not None:
        best = _ranked(train, positive)[:k]
        train, test = _dense(train[:, best]), _dense(test[:, best])
    shift, scale = _standard(train)
    train, test = _scaled(train, shift, scale), _scaled(test, shift, scale)
    C = np.array([_best_penalty(train, positive, seed)])
    fit = fit_logistic(train, positive, rows=np.ones((1, len(positive)), dtype=bool), C=C)
    scores: Floats = logits(test, fit)[0]
    return scores


def _outer(
    units: Units, positive: Bools, seed: int, score: Callable[[Units, Bools, Units], Floats]
) -> Held:
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    scores, tests, first = np.zeros(len(positive)), [], []
    for train, test in folds.split(positive, positive):
        scores[test] = score(units[train], positive[train], units[test])
        tests.append(test)
        first.append(_ranked(units[train], positive[train])[0])
    return Held(scores, tuple(tests), np.array(first, dtype=np.int64))


def _along_difference(train: Units, positive: Bools, test: Units) -> Floats:
    up, down = _means(train, positive)
    direction = up - down
    scores: Floats = np.asarray(test @ direction).ravel() - direction @ (up + down) / 2
    return scores


def _ranked(units: Units, positive: Bools) -> Ints:
    """Units by |mean⁺ − mean⁻|, largest first; of equal ones the lower index."""
    up, down = _means(units, positive)
    order: Ints = np.argsort(-np.abs(up - down), kind="stable")
    return order


def _means(units: Units, positive: Bools) -> tuple[Floats, Floats]:
    up, down = (
        np.asarray(units[side].mean(0), dtype=np.float64).ravel() for side in (positive, ~positive)
    )
    return up, down


def _best_penalty(train: Units, positive: Bools, seed: int) -> float:
    """The penalty with the best mean AUROC of inner folds; the strongest of equal ones."""
    folds = StratifiedKFold(_INNER_FOLDS, shuffle=True, random_state=seed)
    left_out = np.zeros((_INNER_FOLDS, len(positive)), dtype=bool)
    for i, (_, test) in enumerate(folds.split(positive, positive)):
        left_out[i, test] = True
    held = np.repeat(left_out, len(_C_GRID), axis=0)
    fits = fit_logistic(train, positive, rows=~held, C=np.tile(_C_GRID, _INNER_FOLDS))
    ones = np.ones((1, len(positive)))
    found = [
        auroc_draws(scores[test], positive[test], ones[:, test])[0]
        for scores, test in zip(logits(train, fits), held, strict=True)
    ]
    return _C_GRID[int(np.reshape(found, (_INNER_FOLDS, -1)).mean(0).argmax())]


def _standard(units: Units) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each unit; a sparse matrix is not shifted, to stay sparse."""
    if sparse.issparse(units):
        mean = np.asarray(units.mean(0), dtype=np.float64).ravel()
        square = np.asarray(units.multiply(units).mean(0), dtype=np.float64).ravel()
        std = np.sqrt(np.maximum(square - mean**2, 0.0))
        mean = np.zeros_like(mean)
    else:
        mean, std = units.mean(0, dtype=np.float64), units.std(0, dtype=np.float64)
    return mean, np.where(std > 1e-9, std, 1.0)


def _scaled(units: Units, shift: Floats, scale: Floats) -> Units:
    if sparse.issparse(units):
        return sparse.csr_matrix(units.multiply(1 / scale))
    rows: npt.NDArray[np.float32] = ((units - shift) / scale).astype(np.float32)
    return rows


def _dense(units: Units) -> npt.NDArray[np.float32]:
    rows: npt.NDArray[np.float32] = units.toarray() if sparse.issparse(units) else units
    return rows
