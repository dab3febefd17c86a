"""What else reads the concept, chosen and fitted on training texts, asked about held-out ones.

Beside the latents stand what needs no SAE: the difference of the classes' means, and a logistic
probe of the raw activation. Where these read better, the SAE did not help to find the concept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.evaluate.bootstrap import Floats, interval
from saetools.evaluate.concept_search.features import TextFeatures
from saetools.evaluate.concepts.probe import logistic_scores
from saetools.evaluate.concepts.scores import accuracy_draws, auroc_draws
from saetools.evaluate.concepts.sparse_logistic import penalties, solve_path, standardised

__all__ = [
    "ALL_LATENTS",
    "BEST_LATENT",
    "MEAN_DIFFERENCE",
    "RAW_PROBE",
    "Reader",
    "compare_readers",
    "few_latents",
    "held_out_scores",
    "score_readers",
]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

BEST_LATENT = "best latent"
ALL_LATENTS = "probe of all latents"
MEAN_DIFFERENCE = "difference of means, raw"
RAW_PROBE = "probe, raw"


@dataclass(frozen=True)
class Reader:
    """How well one way to read the concept does on held-out texts; 0.5 is chance, 1 perfect.

    Args:
        name: what reads.
        auroc: chance that a text with the concept scores higher; low, high: 95 % interval.
        accuracy: mean of the shares of both classes that are told; low, high: 95 % interval.
        scores: of each held-out text; above 0 says that it has the concept, (n_held_out,).
    """

    name: str
    auroc: float
    auroc_low: float
    auroc_high: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    scores: Floats


def few_latents(k: int) -> str:
    """Name of the probe of `k` latents."""
    return f"probe of {k} latents"


def held_out_scores(
    train: TextFeatures,
    positive: Bools,
    test: TextFeatures,
    *,
    best: int,
    k: int,
    seed: int,
) -> dict[str, Floats]:
    """Scores of the held-out texts by every reader; penalties are chosen by cross-validation.

    Args:
        positive: class of the training texts.
        best: the latent that parts the training texts best.
        k: latents of the sparse probe at most: those that a logistic probe with an L1 penalty
            reads, at the least penalty that leaves it no more than k.
    """

    def probe(before: Any, after: Any) -> Floats:
        return logistic_scores(before, positive, after, k=None, seed=seed)

    few = _best_latents(train.latents, positive, k)
    single = [np.asarray(part.latents[:, [best]].todense()).ravel() for part in (train, test)]
    return {
        BEST_LATENT: _cut(single[0].astype(np.float64), positive, single[1].astype(np.float64)),
        few_latents(k): probe(train.latents[:, few], test.latents[:, few]),
        ALL_LATENTS: probe(train.latents, test.latents),
        MEAN_DIFFERENCE: _along_difference(train.x, positive, test.x),
        RAW_PROBE: probe(train.x, test.x),
    }


def score_readers(scores: Mapping[str, Floats], positive: Bools, draws: Floats) -> list[Reader]:
    """Figures of each reader with their intervals over held-out texts.

    Args:
        positive: class of the held-out texts.
        draws: their weights; the first draw is the texts as they are.
    """
    found = []
    for name, values in scores.items():
        auroc, accuracy = (f(values, positive, draws) for f in (auroc_draws, accuracy_draws))
        found.append(
            Reader(
                name,
                float(auroc[0]),
                *interval(auroc[1:]),
                float(accuracy[0]),
                *interval(accuracy[1:]),
                scores=values,
            )
        )
    return found


def compare_readers(
    first: Floats, second: Floats, positive: Bools, draws: Floats
) -> tuple[float, float, float]:
    """AUROC of the first less that of the second, with its 95 % interval; texts are paired."""
    gap = auroc_draws(first, positive, draws) - auroc_draws(second, positive, draws)
    return float(gap[0]), *interval(gap[1:])


def _best_latents(latents: Any, positive: Bools, k: int) -> Ints:
    units = standardised(latents)[0]
    target = np.column_stack([positive, ~positive]).astype(np.float64)
    found = np.zeros(0, dtype=np.int64)
    for point in solve_path(units, target, penalties(units, target, n=60, least=0.03)[1:]):
        if len(point.units) > k and len(found):
            break
        found = point.units
    return found[:k]


def _cut(train: Floats, positive: Bools, test: Floats) -> Floats:
    """Signed distance from the threshold that tells the training texts best."""
    sign = 1.0 if train[positive].mean() >= train[~positive].mean() else -1.0
    values = np.unique(sign * train)
    limits = np.r_[values[0] - 1, (values[1:] + values[:-1]) / 2]
    above = sign * train[:, None] > limits  # (n_train, n_limits)
    right = above[positive].mean(0) + (~above[~positive]).mean(0)
    found: Floats = sign * test - limits[int(right.argmax())]
    return found


def _along_difference(
    train: npt.NDArray[np.float32], positive: Bools, test: npt.NDArray[np.float32]
) -> Floats:
    up, down = (train[side].mean(0, dtype=np.float64) for side in (positive, ~positive))
    found: Floats = (test - (up + down) / 2) @ (up - down)
    return found
