"""How well a concept can be read from a few latents: k-sparse probing.

For each concept, against as many texts without it: the k latents with the largest |mean⁺ − mean⁻|
of their mean over a text's content tokens, and a logistic probe on them (Gurnee et al. 2023,
arXiv:2305.01610; as in SAEBench, Karvonen et al. 2025, arXiv:2503.09532).

    probe_auroc_k1     mean over concepts of the AUROC, k = 1, 2, 5, 16; 0.5 is chance, 1 perfect
    probe_accuracy_k1  the same with the balanced accuracy
    ..._neurons_k1     the same with k coordinates of the activation
    ..._all_latents    all latents;  ..._raw: all coordinates
    ..._mean_difference  no fit: the activation along the difference of the classes' means

Every text is scored by a probe of a fold that left it out of choosing, scaling, tuning and fitting
(`saetools.evaluate.concepts.probe`); SAEBench keeps the epoch with the best test accuracy instead,
which flatters. Higher is better, yet a high value says only that the concept can be read, which raw
activations mostly allow even better; what counts is k = 1 against `neurons_k1` and against `raw`.
Errors: over texts by resampling them, folds held fixed; over concepts by resampling concepts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from saetools import progress
from saetools.evaluate.base import METRICS, Figure, Findings, Table
from saetools.evaluate.bootstrap import Floats, mean_stderr
from saetools.evaluate.concepts.choose import PER_CONCEPT
from saetools.evaluate.concepts.metric import ConceptMetric
from saetools.evaluate.concepts.pooled import PooledTexts
from saetools.evaluate.concepts.probe import Held, concept_rows, cross_fit, difference_scores
from saetools.evaluate.concepts.scores import accuracy_draws, auroc_draws, draws_of, spread
from saetools.evaluate.context import MetricContext

__all__ = ["SparseProbing"]

KS = (1, 2, 5, 16)

_WHAT = {
    **{f"k{k}": f"a probe on the {k} best latents" for k in KS},
    **{f"neurons_k{k}": f"a probe on the {k} best coordinates of the activation" for k in KS},
    "all_latents": "a probe on all latents",
    "raw": "a probe on the whole activation",
    "mean_difference": "the activation along the difference of means",
}
_SCORES: dict[str, tuple[str, Callable[..., Floats]]] = {
    "auroc": ("AUROC", auroc_draws),
    "accuracy": ("balanced accuracy", accuracy_draws),
}
_FIGURES = {
    (score, probe): Figure(
        f"probe_{score}_{probe}",
        f"{spelled} of {what}, mean over concepts; 0.5 is chance",
        "higher" if probe.startswith("k") else "none",
        (0.0, 1.0),
    )
    for score, (spelled, _) in _SCORES.items()
    for probe, what in _WHAT.items()
}


@METRICS.register("sparse_probing")
class SparseProbing(ConceptMetric):
    """Concepts read from 1, 2, 5 and 16 latents, with four baselines."""

    figures = tuple(_FIGURES.values())
    one_hook = None

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure; the table `sparse_probing` has a row for each concept."""
        data = ctx.pooled
        # Two threads on matrices this small cost more than they give.
        with threadpool_limits(1, user_api="blas"):
            found = [row for pooled in data for row in _probe_all(pooled, ctx.seed)]
        measurements = []
        for key, figure in _FIGURES.items():
            draws = np.mean([row.draws[key] for row in found], axis=0)
            values = np.array([row.draws[key][0] for row in found])
            measurements.append(
                figure.measured(
                    draws[0],
                    stderr=spread(draws),
                    stderr_concepts=mean_stderr(values, seed=ctx.seed),
                )
            )
        return Findings(tuple(measurements), tables=(_table(found),))


@dataclass(frozen=True)
class _Probed:
    """One concept: its texts, the latent that is the best in most folds, and scores in draws."""

    data: str
    concept: str
    n_texts: int
    latent: int
    draws: dict[tuple[str, str], Floats]


def _probe_all(pooled: PooledTexts, seed: int) -> Iterator[_Probed]:
    """All concepts of a data set, on the same resamples of its texts."""
    weights = draws_of(len(pooled), seed=seed)
    concepts = pooled.chosen.concepts
    with progress.task("probes", total=len(concepts), unit="concepts") as task:
        for column, concept in enumerate(concepts):
            member = pooled.chosen.member[:, column]
            rows = concept_rows(member, most=PER_CONCEPT, seed=seed)
            held = _probes(pooled, rows, member[rows], seed)
            draws = {
                (score, probe): found.draws(measure, member[rows], weights[:, rows])
                for probe, found in held.items()
                for score, (_, measure) in _SCORES.items()
            }
            best = int(np.bincount(held["k1"].first).argmax())
            yield _Probed(pooled.chosen.name, concept, len(rows), best, draws)
            task.note(concept=concept, auroc_k1=float(draws["auroc", "k1"][0]))
            task.advance()


def _probes(
    pooled: PooledTexts, rows: np.ndarray, positive: np.ndarray, seed: int
) -> dict[str, Held]:
    latents, x = pooled.latents[rows], pooled.x[rows]
    return {
        **{f"k{k}": cross_fit(latents, positive, k=k, seed=seed) for k in KS},
        **{f"neurons_k{k}": cross_fit(x, positive, k=k, seed=seed) for k in KS},
        "all_latents": cross_fit(latents, positive, k=None, seed=seed),
        "raw": cross_fit(x, positive, k=None, seed=seed),
        "mean_difference": difference_scores(x, positive, seed=seed),
    }


def _table(found: list[_Probed]) -> Table:
    rows: tuple[tuple[str | float, ...], ...] = tuple(
        (
            row.data,
            row.concept,
            float(row.n_texts),
            float(row.latent),
            float(row.draws["accuracy", "k1"][0]),
            float(row.draws["auroc", "k1"][0]),
            spread(row.draws["auroc", "k1"]),
            *(float(row.draws["auroc", probe][0]) for probe in _WHAT if probe != "k1"),
        )
        for row in found
    )
    columns = ("data", "concept", "n_texts", "latent", "accuracy_k1", "auroc_k1", "stderr")
    others = tuple(f"auroc_{probe}" for probe in _WHAT if probe != "k1")
    return Table(
        "sparse_probing",
        "each concept: the latent chosen in most folds, and the AUROC of every probe",
        columns + others,
        rows,
    )
