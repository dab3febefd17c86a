"""Targeted probe perturbation: do a concept's latents carry that concept and no other?

For each concept i a probe of the activation, trained once. The n latents with the largest effect
on it are switched off, and all probes are asked again:

    tpp_n = mean_i [ (acc_i − acc_i^{off i}) − mean_{j≠i} (acc_j − acc_j^{off i}) ]

(SAEBench, Karvonen et al. 2025, arXiv:2503.09532; n = 2, 5, 10, 20, 50, 100, 500, of which 20 is
usually quoted; `tpp_mean` is the mean of all seven.) Accuracies are balanced, on held-out texts, as
many with as without the concept. 0: nothing happens, or as much to the other probes; 0.5: the
target falls to chance and nothing else moves; higher is better, −1 to 1. It saturates at large n:
with a whole dictionary off, all probes fall alike. A probe that was at chance has nothing to lose,
so look at `tpp_accuracy`. Effects are signed, as there; latents with no effect above zero are not
switched off. Mean over three seeds of split and probes. Errors: over texts by resampling test
texts with probes and latents fixed; over concepts by resampling concepts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saetools import progress
from saetools.evaluate.base import METRICS, Figure, Findings, Table
from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.concepts.choose import PER_CONCEPT
from saetools.evaluate.concepts.metric import ConceptMetric, means_over_concepts
from saetools.evaluate.concepts.pooled import PooledTexts
from saetools.evaluate.concepts.probe import concept_rows
from saetools.evaluate.concepts.removal import (
    N_LATENTS,
    ablated_scores,
    effects,
    fit_probe,
    pulls,
    split_rows,
    strongest,
)
from saetools.evaluate.concepts.scores import accuracy_draws, draws_of
from saetools.evaluate.context import MetricContext
from saetools.sae import SAE

__all__ = ["TargetedPerturbation"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_SEEDS = 3
_MOST_CONCEPTS = 8

_TPP = {
    n: Figure(
        f"tpp_{n}",
        f"drop of a concept's probe when its {n} latents are off, minus that of the others'",
        "higher",
        (-1.0, 1.0),
    )
    for n in N_LATENTS
}
_MEAN = Figure("tpp_mean", "mean of tpp over all numbers of latents", "higher", (-1.0, 1.0))
_ACCURACY = Figure(
    "tpp_accuracy", "balanced accuracy of the probes with all latents on", "none", (0.0, 1.0)
)


@METRICS.register("tpp")
class TargetedPerturbation(ConceptMetric):
    """What switching off a concept's latents does to its own probe and to the others'."""

    figures = (*_TPP.values(), _MEAN, _ACCURACY)
    one_hook = "it takes latents off the activation that its probes read"

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure; the table `tpp` has a row for each concept."""
        found = [
            row
            for pooled in ctx.pooled
            if len(pooled.chosen.concepts) > 1  # a single concept has no others
            for row in _measure(ctx.sae, pooled, ctx.seed)
        ]
        by_n = {n: np.array([row.own[n] - row.others[n] for row in found]) for n in N_LATENTS}
        by_figure = {
            **{_TPP[n]: draws for n, draws in by_n.items()},
            _MEAN: np.mean(list(by_n.values()), axis=0),
            _ACCURACY: np.array([row.accuracy for row in found]),
        }  # each (n_concepts, n_draws)
        rows = means_over_concepts(by_figure, seed=ctx.seed)
        return Findings(rows, tables=(_table(found),))


@dataclass(frozen=True)
class _Target:
    """What switching off one concept's latents does; (n_draws,) each, `own` and `others` by n."""

    data: str
    concept: str
    accuracy: Floats
    own: dict[int, Floats]
    others: dict[int, Floats]


@dataclass(frozen=True)
class _Judge:
    """A concept's fixed probe with the texts that it is tested on."""

    test: Ints
    truth: Bools
    scores: Floats
    pull: Floats
    effect: Floats


def _measure(sae: SAE, pooled: PooledTexts, seed: int) -> list[_Target]:
    concepts = pooled.chosen.concepts[:_MOST_CONCEPTS]
    weights = draws_of(len(pooled), seed=seed)
    turns = []
    with progress.task("tpp", total=_SEEDS, unit="seeds") as task:
        for turn in range(_SEEDS):
            judges = [_judge(sae, pooled, i, [seed, turn, i, 0x77]) for i in range(len(concepts))]
            turns.append(_drops(pooled, judges, weights))
            task.advance()
    accuracy = np.mean([turn[0] for turn in turns], axis=0)  # (m, n_draws)
    drops = {n: np.mean([turn[1][n] for turn in turns], axis=0) for n in N_LATENTS}
    m = len(concepts)
    return [
        _Target(
            pooled.chosen.name,
            concept,
            accuracy[i],
            own={n: drop[i, i] for n, drop in drops.items()},
            others={n: (drop[i].sum(0) - drop[i, i]) / (m - 1) for n, drop in drops.items()},
        )
        for i, concept in enumerate(concepts)
    ]


def _judge(sae: SAE, pooled: PooledTexts, column: int, seed: list[int]) -> _Judge:
    rng = np.random.default_rng(seed)
    member = pooled.chosen.member[:, column]
    rows = concept_rows(member, most=PER_CONCEPT, seed=int(rng.integers(2**31)))
    train, test = (
        np.concatenate(part) for part in split_rows([rows[member[rows]], rows[~member[rows]]], rng)
    )
    scale = float(np.sqrt(np.square(pooled.x[train], dtype=np.float64).mean())) or 1.0
    probe = fit_probe(pooled.x[train], member[train], scale=scale, seed=int(rng.integers(2**31)))
    pull = pulls(sae, probe)
    effect = effects(pooled.latents[train], member[train], pull, signed=True)
    return _Judge(test, member[test], probe.scores(pooled.x[test]), pull, effect)


def _drops(
    pooled: PooledTexts, judges: list[_Judge], weights: Floats
) -> tuple[Floats, dict[int, Floats]]:
    """Accuracies (m, n_draws); by n what probe j loses with i's latents off, (m, m, n_draws)."""
    before = np.stack([accuracy_draws(j.scores, j.truth, weights[:, j.test]) for j in judges])
    latents = [pooled.latents[judge.test] for judge in judges]
    drops: dict[int, Floats] = {}
    for n in N_LATENTS:
        off = [strongest(judge.effect, n) for judge in judges]
        after = [
            [
                accuracy_draws(
                    ablated_scores(judge.scores, z, judge.pull, chosen),
                    judge.truth,
                    weights[:, judge.test],
                )
                for judge, z in zip(judges, latents, strict=True)
            ]
            for chosen in off
        ]
        drops[n] = before[None] - np.array(after)
    return before, drops


def _table(found: list[_Target]) -> Table:
    rows: tuple[tuple[str | float, ...], ...] = tuple(
        (row.data, row.concept, float(row.accuracy[0]), float(row.own[20][0]),
         float(row.others[20][0]),
         *(float(row.own[n][0] - row.others[n][0]) for n in N_LATENTS))
        for row in found
    )  # fmt: skip
    names = tuple(f"tpp_{n}" for n in N_LATENTS)
    return Table(
        "tpp",
        "each concept: its probe, what it and the others lose with 20 latents off, and tpp",
        ("data", "concept", "accuracy", "own_drop_20", "others_drop_20", *names),
        rows,
    )
