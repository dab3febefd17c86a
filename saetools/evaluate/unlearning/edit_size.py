"""Edit size: how far the weights moved.

Frobenius norm of all differences of weights, the same divided by the norm of the original's
weights, and the number of weights that changed. A hook-based edit (an ablation or a steering that
lasts while its block does) changes none: its protection goes when the hook goes. Lower is better,
everything else being equal; compare methods at equal efficacy.
"""

import numpy as np

from saetools.evaluate.base import Figure
from saetools.evaluate.bootstrap import Estimate
from saetools.evaluate.unlearning.bench import EDITED, ORIGINAL, Bench, Finding, Measured
from saetools.evaluate.unlearning.candidate import Missing, read_weights

__all__ = ["edit_size"]

_NORM = Figure("edit_norm", "norm of the change of the weights", "lower", (0, np.inf))
_RELATIVE = Figure(
    "edit_norm_relative", "the same, by the norm of the weights", "lower", (0, np.inf)
)
_COUNT = Figure("n_changed", "number of weights that changed", "lower", (0, np.inf))


def edit_size(bench: Bench) -> Measured:
    """Norm and number of changed weights; exact, so without an interval.

    Raises:
        Missing: a model shows no weights, or they are of other names or shapes.
    """
    before = read_weights(bench.models[ORIGINAL])
    after = read_weights(bench.models[EDITED])
    shapes = [{name: tuple(w.shape) for name, w in weights.items()} for weights in (before, after)]
    if shapes[0] != shapes[1]:
        raise Missing("the edited model has weights of other names or shapes than the original")
    moved, norm, n_changed = 0.0, 0.0, 0
    for name, weight in before.items():
        old, new = weight.detach().double(), after[name].detach().double().to(weight.device)
        moved += float((new - old).square().sum())
        norm += float(old.square().sum())
        n_changed += int((new != old).sum())
    values = {
        _NORM: moved**0.5,
        _RELATIVE: (moved / norm) ** 0.5 if norm else float("nan"),
        _COUNT: float(n_changed),
    }
    none = np.empty(0)
    return Measured(tuple(Finding(figure, Estimate(v, none)) for figure, v in values.items()))
