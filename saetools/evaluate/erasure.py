"""What fresh probes still read of a concept: a linear one, and one with a hidden layer.

A probe is fresh if it was made after the edit, from edited rows, and is tested on others. Figures
are balanced accuracies, mean recall of both classes, so chance is a half whatever their shares; the
interval is that of the recalls as binomial shares (Wald, with one right and one wrong answer added
to each class, Agresti and Coull 1998).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from saetools.errors import ConfigError
from saetools.evaluate.concepts.probe import logistic_scores
from saetools.evaluate.unlearning.probes import ProbeRows, fit_probe

__all__ = ["FreshProbe", "ProbeReading", "crossed_probe", "fresh_probe"]

FreshProbe = Literal["linear", "mlp"]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.float32]

_Z = 1.96
_LEAST, _LEAST_CROSSED, _FOLDS = 10, 8, 5
_N_HIDDEN = 64
_PENALTY = 1e-3


@dataclass(frozen=True)
class ProbeReading:
    """What one probe reads.

    Args:
        accuracy: balanced, 0–1; of an erased concept it should be at chance, a half.
        half_width: of its 95 % interval.
        n: number of rows it was tested on.
    """

    accuracy: float
    half_width: float
    n: int

    @property
    def at_chance(self) -> bool:
        """Whether the interval reaches down to a half."""
        return self.accuracy - self.half_width <= 0.5

    def __str__(self) -> str:
        return f"{self.accuracy:.3f} ± {self.half_width:.3f}"


def fresh_probe(
    train: Rows,
    positive: Bools,
    test: Rows,
    truth: Bools,
    *,
    kind: FreshProbe = "linear",
    seed: int = 0,
) -> ProbeReading:
    """Fit a probe on some rows and test it on others.

    The linear one is a logistic regression whose penalty is chosen by inner folds; the other has
    one hidden layer of 64 units. Both weigh the classes alike and standardise their input, so that
    no direction hides by being short.

    Args:
        train: rows of the fit, (n, d).
        positive: which of them have the concept.
        test: other rows.
        truth: which of those have it.
        kind: "linear" or "mlp".
        seed: of folds and starting weights.

    Raises:
        ConfigError: a class has fewer than ten rows of the fit, or none of the test.
    """
    least = min(int(positive.sum()), int((~positive).sum()))
    if least < _LEAST or truth.all() or not truth.any():
        raise ConfigError(
            f"a probe needs {_LEAST} rows of each class to learn from, and rows of both to be "
            f"tested on; got {positive.sum()} with the concept and {(~positive).sum()} without, "
            f"and {truth.sum()} and {(~truth).sum()} to test; give more labelled texts"
        )
    return _reading(_predicted(train, positive, test, kind, seed), truth)


def crossed_probe(
    x: Rows, positive: Bools, *, kind: FreshProbe = "linear", seed: int = 0
) -> ProbeReading:
    """Test every row by a probe that was fitted on the other four folds.

    Args:
        x: rows that nothing was fitted on before, (n, d).
        positive: which of them have the concept.
        kind, seed: as `fresh_probe`.

    Raises:
        ConfigError: a class has too few rows.
    """
    least = min(int(positive.sum()), int((~positive).sum()))
    if least < _LEAST_CROSSED:
        raise ConfigError(
            f"a probe needs {_LEAST_CROSSED} texts of each class; got {positive.sum()} with the "
            f"concept and {(~positive).sum()} without; give more labelled texts"
        )
    found = np.zeros(len(x), dtype=bool)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(positive, positive):
        found[test] = _predicted(x[train], positive[train], x[test], kind, seed)
    return _reading(found, positive)


def _predicted(train: Rows, positive: Bools, test: Rows, kind: FreshProbe, seed: int) -> Bools:
    if kind == "mlp":
        return _mlp(train, positive, test, seed)
    # On cores that others use as well, BLAS threads wait for each other.
    with threadpool_limits(1):
        found: Bools = logistic_scores(train, positive, test, k=None, seed=seed) > 0
    return found


def _mlp(train: Rows, positive: Bools, test: Rows, seed: int) -> Bools:
    """Predictions of a probe with a hidden layer; the rarer class is repeated in its fit."""
    rng = np.random.default_rng([seed, 0xE5])
    sides = [np.flatnonzero(positive), np.flatnonzero(~positive)]
    most = max(map(len, sides))
    chosen = np.concatenate([np.append(s, rng.choice(s, most - len(s))) for s in sides])
    rows = ProbeRows(
        torch.from_numpy(train[chosen]),
        torch.from_numpy(positive[chosen].astype(np.int64)),
        torch.ones(len(chosen), 2, dtype=torch.bool),
    )
    probe = fit_probe(rows, "mlp", n_hidden=_N_HIDDEN, penalty=_PENALTY, seed=seed)
    everything = torch.ones(len(test), 2, dtype=torch.bool)
    found: Bools = probe.predict(torch.from_numpy(test), everything).numpy() == 1
    return found


def _reading(found: Bools, truth: Bools) -> ProbeReading:
    recalls, variance = [], 0.0
    for side in (True, False):
        own = found[truth == side] == side
        recalls.append(float(own.mean()))
        share = (own.sum() + 1) / (len(own) + 2)
        variance += share * (1 - share) / len(own)
    return ProbeReading(float(np.mean(recalls)), _Z * math.sqrt(variance) / 2, len(truth))
