"""Spurious correlation removal: does switching off a concept's latents unbias a biased probe?

Two concepts a and b that occur together, apart, and not at all (card: profession and gender). A
biased probe is trained where they are one and the same: on texts with both against texts with
neither. Then the n latents with the largest |effect| on b's own probe are switched off, and

    scr_n = (acc_ablated − acc_biased) / (acc_clean − acc_biased)

is how much of the way the biased probe's accuracy for a, on texts with all four combinations
equally frequent, comes to that of a probe trained on such texts (SAEBench, Karvonen et al. 2025,
arXiv:2503.09532; n = 2, 5, 10, 20, 50, 100, 500, of which 20 is usually quoted; `scr_mean` is the
mean of all seven). 1 is full removal, 0 none, below 0 worse than before; higher is better; 0 where
the denominator is below 0.001.

The same with a and b exchanged is the other direction. Reported is the one with the lower biased
accuracy, as in SAEBench, which gives no value where both are equal; here it is their mean. The
table says which. Mean over three seeds of split and probes, then over pairs. Its denominator is
small where the probe is hardly biased, and then it is noise: look at `scr_biased_accuracy`.
Errors: resampled test texts, direction held fixed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saetools import progress
from saetools.evaluate.base import METRICS, Figure, Findings, Table
from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.concepts.choose import cells
from saetools.evaluate.concepts.metric import PairMetric, means_over_concepts
from saetools.evaluate.concepts.pooled import PooledTexts
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

__all__ = ["SpuriousRemoval"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_SEEDS = 3
_SMALLEST = 1e-3
_MOST_IN_CELL = 250

_SCR = {
    n: Figure(
        f"scr_{n}",
        f"share of a probe's spurious bias that switching off {n} latents removes; 1 is all",
        "higher",
        (-float("inf"), float("inf")),
    )
    for n in N_LATENTS
}
_MEAN = Figure("scr_mean", "mean of scr over all numbers of latents", "higher", _SCR[2].range)
_BIASED = Figure(
    "scr_biased_accuracy", "accuracy of the biased probe before; 0.5 is chance", "none", (0.0, 1.0)
)
_CLEAN = Figure(
    "scr_clean_accuracy", "accuracy of a probe without the bias: the ceiling", "none", (0.0, 1.0)
)


@METRICS.register("scr")
class SpuriousRemoval(PairMetric):
    """How far a biased probe is unbiased by switching off the spurious concept's latents."""

    figures = (*_SCR.values(), _MEAN, _BIASED, _CLEAN)
    one_hook = "it takes latents off the activation that its probes read"

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure; the table `scr` has a row for each pair."""
        found = [
            _measure(ctx.sae, pooled, pair, ctx.seed)
            for pooled in ctx.pooled
            for pair in pooled.chosen.pairs
        ]
        by_n = {n: np.array([pair.scr[n] for pair in found]) for n in N_LATENTS}
        by_n_and_mean = {
            **{_SCR[n]: draws for n, draws in by_n.items()},
            _MEAN: np.mean(list(by_n.values()), axis=0),
            _BIASED: np.array([pair.biased for pair in found]),
            _CLEAN: np.array([pair.clean for pair in found]),
        }  # each (n_pairs, n_draws)
        rows = means_over_concepts(by_n_and_mean, seed=ctx.seed)
        return Findings(rows, tables=(_table(found),))


@dataclass(frozen=True)
class _Direction:
    """The biased probe judged by one concept while the other's latents are off; (n_draws,) each."""

    kept: str
    removed: str
    scr: dict[int, Floats]
    biased: Floats
    clean: Floats


@dataclass(frozen=True)
class _Pair:
    data: str
    n_texts: int
    kept: str
    removed: str
    scr: dict[int, Floats]
    biased: Floats
    clean: Floats


def _measure(sae: SAE, pooled: PooledTexts, pair: tuple[str, str], seed: int) -> _Pair:
    columns = [pooled.chosen.concepts.index(name) for name in pair]
    has = pooled.chosen.member[:, columns].T  # (2, n_texts)
    groups = [np.flatnonzero(cell) for cell in cells(*has)]
    n = min(_MOST_IN_CELL, *map(len, groups))
    weights = draws_of(len(pooled), seed=seed)
    runs = []
    with progress.task("scr", total=_SEEDS, unit="seeds") as task:
        for turn in range(_SEEDS):
            rng = np.random.default_rng([seed, turn, 0x5C])
            drawn = [rng.choice(group, n, replace=False) for group in groups]
            runs.append(_both_ways(sae, pooled, pair, has, drawn, weights, rng))
            task.advance()
    directions = [_mean([run[way] for run in runs]) for way in range(2)]
    return _chosen(directions, pooled.chosen.name, 4 * n)


def _both_ways(
    sae: SAE,
    pooled: PooledTexts,
    pair: tuple[str, str],
    has: Bools,
    drawn: list[Ints],
    weights: Floats,
    rng: np.random.Generator,
) -> list[_Direction]:
    train_cells, test_cells = split_rows(drawn, rng)
    train, test = np.concatenate(train_cells), np.concatenate(test_cells)
    both_or_none = np.concatenate([train_cells[0], train_cells[3]])
    scale = float(np.sqrt(np.square(pooled.x[train], dtype=np.float64).mean())) or 1.0
    seed = int(rng.integers(2**31))
    biased = fit_probe(pooled.x[both_or_none], has[0][both_or_none], scale=scale, seed=seed)
    clean = [fit_probe(pooled.x[train], side[train], scale=scale, seed=seed) for side in has]
    before, pull = biased.scores(pooled.x[test]), pulls(sae, biased)
    found = []
    for kept, removed in ((0, 1), (1, 0)):
        effect = effects(
            pooled.latents[train], has[removed][train], pulls(sae, clean[removed]), signed=False
        )
        truth, w = has[kept][test], weights[:, test]
        start = accuracy_draws(before, truth, w)
        ceiling = accuracy_draws(clean[kept].scores(pooled.x[test]), truth, w)
        after = {
            n: accuracy_draws(
                ablated_scores(before, pooled.latents[test], pull, strongest(effect, n)), truth, w
            )
            for n in N_LATENTS
        }
        scr = {n: _share(accuracy - start, ceiling - start) for n, accuracy in after.items()}
        found.append(_Direction(pair[kept], pair[removed], scr, start, ceiling))
    return found


def _share(gained: Floats, whole: Floats) -> Floats:
    return np.divide(gained, whole, out=np.zeros(len(whole)), where=whole >= _SMALLEST)


def _mean(runs: list[_Direction]) -> _Direction:
    scr = {n: np.mean([run.scr[n] for run in runs], axis=0) for n in N_LATENTS}
    biased, clean = (
        np.mean(side, axis=0) for side in ([r.biased for r in runs], [r.clean for r in runs])
    )
    return _Direction(runs[0].kept, runs[0].removed, scr, biased, clean)


def _chosen(directions: list[_Direction], data: str, n_texts: int) -> _Pair:
    """The direction with the lower biased accuracy, or the mean of both where they are equal."""
    one, other = directions
    if one.biased[0] == other.biased[0]:
        both = _mean(directions)
        return _Pair(data, n_texts, "both", "both", both.scr, both.biased, both.clean)
    best = one if one.biased[0] < other.biased[0] else other
    return _Pair(data, n_texts, best.kept, best.removed, best.scr, best.biased, best.clean)


def _table(found: list[_Pair]) -> Table:
    rows: tuple[tuple[str | float, ...], ...] = tuple(
        (pair.data, pair.kept, pair.removed, float(pair.n_texts), float(pair.biased[0]),
         float(pair.clean[0]), *(float(pair.scr[n][0]) for n in N_LATENTS))
        for pair in found
    )  # fmt: skip
    names = tuple(f"scr_{n}" for n in N_LATENTS)
    return Table(
        "scr",
        "each pair in the direction chosen: the concept that the probe is judged by, and the other",
        ("data", "kept", "removed", "n_texts", "biased_accuracy", "clean_accuracy", *names),
        rows,
    )
