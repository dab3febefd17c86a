"""Multinomial logistic regression with an L1 penalty, along a path of penalties.

Minimises (1/n) Σ_i CE(y_i, softmax(x_i W + b)) + λ ‖W‖₁, the intercept free, by accelerated
proximal gradient steps (FISTA, Beck & Teboulle 2009) with a line search and restarts where the
momentum points uphill (O'Donoghue & Candès 2015). From one λ to the next only units that may enter
are looked at (sequential strong rule, Tibshirani et al. 2012); then the optimality conditions of
all others are checked, and those that break them are taken in, so that nothing is lost by it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import logsumexp, softmax

from saetools.evaluate.bootstrap import Floats

__all__ = ["PathPoint", "largest_penalty", "logits", "penalties", "solve_path", "standardised"]

Ints = npt.NDArray[np.int64]

_STEPS = 2000
_ROUNDS = 20
_GROW, _SHRINK = 2.0, 0.9  # of the estimate of the curvature


@dataclass(frozen=True)
class PathPoint:
    """The solution at one penalty.

    Args:
        penalty: λ.
        units: units with a weight other than 0, increasing, (m,).
        weight: their weights, (m, n_classes).
        bias: (n_classes,).
        gap: how far the optimality conditions are broken at most, as a share of λ.
    """

    penalty: float
    units: Ints
    weight: Floats
    bias: Floats
    gap: float


def logits(x: Any, point: PathPoint) -> Floats:
    """x W + b, (n, n_classes); x is dense or sparse (CSR or CSC)."""
    found: Floats = np.asarray(x[:, point.units] @ point.weight) + point.bias
    return found


def largest_penalty(x: Any, target: Floats) -> float:
    """The least λ at which no unit is used."""
    return float(np.abs(_pull(x, target.mean(0) - target)).max(initial=0.0))


def penalties(x: Any, target: Floats, *, n: int, least: float) -> Floats:
    """`n` penalties from the one at which no unit is used down to `least` of it."""
    found: Floats = largest_penalty(x, target) * np.geomspace(1.0, least, n)
    return found


def solve_path(
    x: Any, target: Floats, lambdas: Sequence[float] | Floats, *, tolerance: float = 1e-2
) -> Iterator[PathPoint]:
    """Solve for falling penalties, each begun at the solution before; made as they are asked for.

    Args:
        x: units, dense or scipy CSC, (n, n_units); of one scale, as the penalty is one for all.
        target: one-hot classes, (n, n_classes).
        lambdas: penalties, falling.
        tolerance: how far optimality may be broken, as a share of λ.
    """
    n_units, n_classes = x.shape[1], target.shape[1]
    weight = np.zeros((n_units, n_classes))
    bias = np.log(np.maximum(target.mean(0), 1e-12))
    before = max(largest_penalty(x, target), float(lambdas[0]))
    pull = np.abs(_pull(x, softmax(np.tile(bias, (len(target), 1)), axis=1) - target)).max(1)
    for lam in map(float, lambdas):
        active = (weight != 0).any(1) | (pull >= 2 * lam - before)
        gap = np.inf
        for _ in range(_ROUNDS):
            at = np.flatnonzero(active)
            part = _dense(x[:, at])
            weight[at], bias, gap = _fista(part, target, lam, weight[at], bias, tolerance)
            residual = softmax(part @ weight[at] + bias, axis=1) - target
            pull = np.abs(_pull(x, residual)).max(1)
            broken = ~active & (pull > lam * (1 + tolerance))
            if not broken.any():
                break
            active |= broken
        used = np.flatnonzero((weight != 0).any(1))
        yield PathPoint(lam, used, weight[used], bias.copy(), gap)
        before = lam


def standardised(x: Any) -> tuple[Any, Floats, Floats]:
    """Units of one standard deviation, what was taken off and what they were divided by.

    Dense units are centred; sparse ones are not, to stay sparse.
    """
    if not sparse.issparse(x):
        dense = np.asarray(x, dtype=np.float64)
        shift, std = dense.mean(0), dense.std(0)
        scale = np.where(std > 1e-9, std, 1.0)
        return (dense - shift) / scale, shift, scale
    table = sparse.csc_matrix(x, dtype=np.float64)
    mean = np.asarray(table.mean(0)).ravel()
    square = np.asarray(table.multiply(table).mean(0)).ravel()
    std = np.sqrt(np.maximum(square - mean**2, 0.0))
    scale = np.where(std > 1e-9, std, 1.0)
    return (table @ sparse.diags(1 / scale)).tocsc(), np.zeros(len(scale)), scale


def _fista(
    x: Floats, target: Floats, lam: float, weight: Floats, bias: Floats, tolerance: float
) -> tuple[Floats, Floats, float]:
    """Weights, intercepts and the share of λ by which optimality is still broken."""
    # Centred units have a far smaller curvature; the free intercept makes up for the shift.
    shift = x.mean(0)
    rows = np.column_stack([x - shift, np.ones(len(x))])
    at = np.vstack([weight, bias + shift @ weight])
    ahead, momentum, curvature = at, 1.0, _curvature(rows)
    most = curvature
    gap = np.inf
    for _ in range(_STEPS):
        loss, gradient = _loss(rows, target, ahead)
        while True:
            new = _shrunk(ahead - gradient / curvature, lam / curvature)
            move = new - ahead
            bound = loss + (gradient * move).sum() + curvature / 2 * (move**2).sum()
            if curvature >= most or _loss_only(rows, target, new) <= bound + 1e-12 * abs(loss):
                break
            curvature = min(curvature * _GROW, most)
        gap = float(np.abs(move).max()) * curvature / lam
        if gap <= tolerance:
            at = new
            break
        if ((ahead - new) * (new - at)).sum() > 0:  # the momentum points uphill: start it anew
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - at)
        at, momentum, curvature = new, following, curvature * _SHRINK
    return at[:-1], at[-1] - shift @ at[:-1], gap


def _loss(rows: Floats, target: Floats, at: Floats) -> tuple[float, Floats]:
    score = rows @ at
    total = logsumexp(score, axis=1, keepdims=True)
    gradient = rows.T @ (np.exp(score - total) - target) / len(rows)
    return float((total[:, 0] - (score * target).sum(1)).mean()), gradient


def _loss_only(rows: Floats, target: Floats, at: Floats) -> float:
    score = rows @ at
    return float((logsumexp(score, axis=1) - (score * target).sum(1)).mean())


def _shrunk(at: Floats, by: float) -> Floats:
    found = np.sign(at) * np.maximum(np.abs(at) - by, 0.0)
    found[-1] = at[-1]  # the intercept has no penalty
    return found


def _curvature(rows: Floats) -> float:
    """Upper bound of the loss' curvature: half the largest eigenvalue of rowsᵀ rows / n."""
    v = np.ones(rows.shape[1])
    size = 1.0
    for _ in range(30):
        v = rows.T @ (rows @ (v / np.linalg.norm(v))) / len(rows)
        size = float(np.linalg.norm(v))
    return 0.55 * size + 1e-12  # power iteration comes from below


def _pull(x: Any, residual: Floats) -> Floats:
    """Gradient of the loss by each unit's weights, (n_units, n_classes)."""
    found: Floats = np.asarray(x.T @ residual) / len(residual)
    return found


def _dense(x: Any) -> Floats:
    found: Floats = np.asarray(x.todense() if sparse.issparse(x) else x, dtype=np.float64)
    return found
