"""Logistic regressions on one matrix: many subsets of its rows and many penalties at once.

Minimises, as scikit-learn's `LogisticRegression(C, class_weight="balanced")` does,

    C · Σ_i s_i log(1 + exp(−y_i (x_i · w + b))) + ½ ‖w‖²        y = ±1, Σ s equal in both classes

Nested cross-validation of small probes is tens of thousands of fits. Those on a few columns are
Newton steps for all problems together, which takes a twentieth of scikit-learn's time; wide ones
are L-BFGS, each begun where the one before ended.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

from saetools.evaluate.bootstrap import Floats

__all__ = ["fit_logistic", "logits"]

Bools = npt.NDArray[np.bool_]

_NEWTON_COLUMNS = 32
_NEWTON_STEPS = 50
_HALVINGS = 12
_TOLERANCE = 1e-6
_GRADIENT = 1e-4  # scikit-learn's own tolerance


def fit_logistic(x: Any, positive: Bools, *, rows: Bools, C: Floats) -> Floats:
    """Fit one regression for each subset of rows; (n_fits, n_columns + 1), the intercept last.

    Args:
        x: dense or sparse (CSR) matrix, (n, n_columns).
        positive: class of each row, (n,).
        rows: rows that each fit sees, of both classes, (n_fits, n).
        C: inverse penalty of each fit, (n_fits,).
    """
    weight = C[:, None] * _balanced(rows, positive)  # (n_fits, n)
    if x.shape[1] <= _NEWTON_COLUMNS:
        return _newton(x, positive, weight)
    found = np.zeros((len(rows), x.shape[1] + 1))
    at = found[0]
    for i, w in enumerate(weight):
        seen = w > 0
        found[i] = at = _lbfgs(x[seen], positive[seen], w[seen], start=at)
    return found


def logits(x: Any, coefficients: Floats) -> Floats:
    """x · w + b of each fit, (n_fits, n)."""
    found: Floats = (x @ coefficients[..., :-1].T).T + coefficients[..., -1:]
    return found


def _balanced(rows: Bools, positive: Bools) -> Floats:
    """Weights that give both classes half of the rows' total; 0 outside the rows."""
    n = rows.sum(1, keepdims=True)
    up = (rows & positive).sum(1, keepdims=True)
    weight: Floats = rows * np.where(positive, n / (2 * up), n / (2 * (n - up)))
    return weight


def _newton(x: Any, positive: Bools, weight: Floats) -> Floats:
    dense = x.toarray() if sparse.issparse(x) else x
    X = np.column_stack([dense, np.ones(len(dense))]).astype(np.float64)
    n, p = X.shape
    products = (X[:, :, None] * X[:, None, :]).reshape(n, p * p)
    ridge = np.ones(p)
    ridge[-1] = 1e-10  # only keeps the matrix regular; the intercept has no penalty
    at = np.zeros((len(weight), p))
    loss = _losses(X, positive, weight, at, ridge)
    for _ in range(_NEWTON_STEPS):
        chance = expit(at @ X.T)
        gradient = (weight * (chance - positive)) @ X + ridge * at
        curvature = (weight * chance * (1 - chance)) @ products
        hessian = curvature.reshape(-1, p, p) + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        at, loss, moved = _backtrack(X, positive, weight, ridge, at, loss, step)
        if moved < _TOLERANCE:
            break
    return at


def _backtrack(
    X: Floats, positive: Bools, weight: Floats, ridge: Floats, at: Floats, loss: Floats,
    step: Floats,
) -> tuple[Floats, Floats, float]:  # fmt: skip
    """Halve the steps of those fits whose loss would rise; the largest move says when to stop."""
    size = np.ones((len(at), 1))
    for _ in range(_HALVINGS):
        after = at - size * step
        new = _losses(X, positive, weight, after, ridge)
        worse = new > loss + 1e-12 * np.abs(loss)
        if not worse.any():
            return after, new, float(np.abs(size * step).max())
        size[worse] /= 2
    keep = worse[:, None]
    return np.where(keep, at, after), np.where(worse, loss, new), 0.0


def _losses(X: Floats, positive: Bools, weight: Floats, at: Floats, ridge: Floats) -> Floats:
    score = at @ X.T
    found: Floats = (weight * np.logaddexp(0.0, np.where(positive, -score, score))).sum(1)
    found += 0.5 * (ridge * at**2).sum(1)
    return found


def _lbfgs(x: Any, positive: Bools, weight: Floats, *, start: Floats) -> Floats:
    total = weight.sum()

    def value(at: Floats) -> tuple[float, Floats]:
        score = x @ at[:-1] + at[-1]
        loss = weight @ np.logaddexp(0.0, np.where(positive, -score, score))
        pull = weight * (expit(score) - positive)
        gradient = np.append(x.T @ pull + at[:-1], pull.sum())
        return float(loss + 0.5 * at[:-1] @ at[:-1]) / total, gradient / total

    # A probe that has not quite converged is still a probe; its held-out score says how good.
    options = {"gtol": _GRADIENT, "maxiter": 500}
    found: Floats = minimize(value, start, jac=True, method="L-BFGS-B", options=options).x
    return found
