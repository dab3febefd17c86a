"""A sparse linear head on any units: its penalty chosen on texts set aside, then fitted on all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import logsumexp

from saetools.errors import ConfigError
from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.concepts.sparse_logistic import (
    PathPoint,
    logits,
    penalties,
    solve_path,
    standardised,
)

__all__ = ["LEAST_TEXTS", "Head", "HeadPath", "PathRow", "classes_of", "fit_path"]

Ints = npt.NDArray[np.int64]

LEAST_TEXTS = 4
"""Texts that a class needs to be fitted: one of them is set aside."""

_ASIDE = 0.25
_N_PENALTIES = 32
_LEAST_PENALTY = 0.001  # of the one at which no unit is used
_PATIENCE = 3


@dataclass(frozen=True)
class Head:
    """softmax(x W + b) on the few units that have a weight, in the units' own scale.

    Args:
        units: which units, increasing, (m,).
        weight: (m, n_classes).
        bias: (n_classes,).
        penalty: λ that it was fitted with.
    """

    units: Ints
    weight: Floats
    bias: Floats
    penalty: float

    def logits(self, x: Any) -> Floats:
        """Scores of texts, (n, n_classes); x is dense or sparse, (n, n_units)."""
        found: Floats = np.asarray(x[:, self.units] @ self.weight) + self.bias
        return found


@dataclass(frozen=True)
class PathRow:
    """One penalty: units used by the head of all texts, and what the texts set aside say of it.

    Those were asked about a head that had not seen them. `cross_entropy` is in nats, lower is
    better.
    """

    penalty: float
    n_units: int
    cross_entropy: float
    accuracy: float


@dataclass(frozen=True)
class HeadPath:
    """Heads from the sparsest to the chosen one; `rows` say what the choice was made by."""

    heads: tuple[Head, ...]
    rows: tuple[PathRow, ...]

    @property
    def chosen(self) -> Head:
        """The head whose penalty the texts set aside like best."""
        return self.heads[-1]


def fit_path(
    x: Any, of_class: Ints, *, n_classes: int, penalty: float | None = None, seed: int = 0
) -> HeadPath:
    """Fit heads for falling penalties, down to the best one.

    A quarter of each class is set aside; the penalty is the one at which the rest predicts it with
    the least cross-entropy. The heads are then fitted on all texts. Units are brought to one
    standard deviation before, since the penalty is one for all; dense units are centred too, while
    sparse ones keep their zeros.

    Args:
        x: units, dense or sparse, (n, n_units).
        of_class: class of each text, (n,).
        penalty: λ to use, none to choose it.

    Raises:
        ConfigError: a class has fewer than four texts.
    """
    counts = np.bincount(of_class, minlength=n_classes)
    if n_classes < 2 or counts.min() < LEAST_TEXTS:
        raise ConfigError(
            f"a head needs two classes or more with {LEAST_TEXTS} texts each to learn from; got "
            f"{n_classes} classes, the smallest with {counts.min(initial=0)} texts"
        )
    target = np.eye(n_classes)[of_class]
    units, shift, scale = standardised(x)
    grid = penalties(units, target, n=_N_PENALTIES, least=_LEAST_PENALTY)
    if penalty is not None:
        grid = np.append(grid[grid > penalty], penalty)
    tried = _try(units, target, _set_aside(of_class, seed), grid, stop=penalty is None)
    best = len(tried) - 1
    if penalty is None:
        best = int(np.argmin([cross_entropy for cross_entropy, _ in tried]))
    points = list(solve_path(units, target, grid[: best + 1]))
    return HeadPath(
        tuple(_own_scale(point, shift, scale) for point in points),
        tuple(
            PathRow(point.penalty, len(point.units), *figures)
            for point, figures in zip(points, tried, strict=False)
        ),
    )


def _try(
    units: Any, target: Floats, aside: npt.NDArray[np.bool_], grid: Floats, *, stop: bool
) -> list[tuple[float, float]]:
    """Cross-entropy and accuracy of the texts set aside, at each penalty until they get worse."""
    seen, kept = np.flatnonzero(~aside), np.flatnonzero(aside)
    rows = units.tocsr() if sparse.issparse(units) else units
    train, test = rows[seen], rows[kept]
    train = train.tocsc() if sparse.issparse(train) else train
    found: list[tuple[float, float]] = []
    for point in solve_path(train, target[seen], grid):
        score = logits(test, point)
        cross_entropy = logsumexp(score, axis=1) - (score * target[kept]).sum(1)
        right = score.argmax(1) == target[kept].argmax(1)
        found.append((float(cross_entropy.mean()), float(right.mean())))
        best = int(np.argmin([value for value, _ in found]))
        if stop and len(found) - 1 - best >= _PATIENCE:
            break
    return found


def _set_aside(of_class: Ints, seed: int) -> npt.NDArray[np.bool_]:
    """A quarter of each class, one text at least."""
    rng = np.random.default_rng([seed, 0xA5])
    aside = np.zeros(len(of_class), dtype=bool)
    for c in np.unique(of_class):
        rows = rng.permutation(np.flatnonzero(of_class == c))
        aside[rows[: max(1, round(_ASIDE * len(rows)))]] = True
    return aside


def _own_scale(point: PathPoint, shift: Floats, scale: Floats) -> Head:
    weight = point.weight / scale[point.units, None]
    return Head(point.units, weight, point.bias - shift[point.units] @ weight, point.penalty)


def classes_of(labels: Sequence[str]) -> tuple[tuple[str, ...], Ints]:
    """Class names in order, and the class of each text."""
    names, of_class = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
    return tuple(names.tolist()), of_class.astype(np.int64)
