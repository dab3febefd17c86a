"""How far apart concepts are in the activations of single units, latents against neurons.

A unit's activation is its mean over a text's content tokens. Groups are texts of exactly one
concept (and those of none), as many of each. For a unit and two groups, with √JSD the Jensen–
Shannon distance in bits of their histograms and the null what shuffled groups give:

    excess = √JSD − null       0 says nothing (on average), at most 1 − null where disjoint

    separability_latents      mean over pairs of groups and over latents that fire at all
    separability_neurons      the same of the coordinates of the activation
    separability_null_...     the mean null that was subtracted
    separability_best_...     for each group the unit with the largest mean distance to the others,
                              chosen on half the texts and measured on the other half; the mean
    separability_best_equal   best_latents with only as many latents to choose from as neurons,
                              mean of 16 draws

All are between −1 and 1; higher is better. After Fereidouni et al. 2025 (arXiv:2508.15094), whose
formulas were not at hand: this is our specification (their score has no null, as far as known).
Without the null a rare latent and few texts look like separation. A mean over latents falls with
the share of latents about other things, so compare `best` before the means. Errors: over texts by
resampling them with bins and choice held fixed (means: of 512 units at most); over concepts by
resampling groups.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saetools import progress
from saetools.evaluate.base import METRICS, Figure, Findings, Measurement, Table
from saetools.evaluate.bootstrap import mean_stderr
from saetools.evaluate.concepts.choose import MIN_TEXTS, PER_CONCEPT, Chosen
from saetools.evaluate.concepts.metric import ConceptMetric
from saetools.evaluate.concepts.pooled import PooledTexts
from saetools.evaluate.concepts.separation import Separation, separation
from saetools.evaluate.context import MetricContext

__all__ = ["Separability"]

Ints = npt.NDArray[np.int64]

_RANGE = (-1.0, 1.0)
_FIGURES = {
    name: Figure(f"separability_{name}", meaning, direction, _RANGE)  # type: ignore[arg-type]
    for name, meaning, direction in (
        ("latents", "distance of concepts in a latent beyond chance, mean of latents", "higher"),
        ("neurons", "the same of coordinates of the activation", "none"),
        ("null_latents", "distance of shuffled concepts in a latent, subtracted above", "none"),
        ("null_neurons", "distance of shuffled concepts in a coordinate", "none"),
        ("best_latents", "the same of each concept's best latent, on texts held out", "higher"),
        ("best_neurons", "the same of each concept's best coordinate", "none"),
        ("best_equal", "best_latents with as many latents to choose from as coordinates", "higher"),
    )
}


@METRICS.register("separability")
class Separability(ConceptMetric):
    """Jensen–Shannon distances between concepts in single units, chance subtracted."""

    figures = tuple(_FIGURES.values())
    one_hook = None

    def missing(self, ctx: MetricContext) -> str | None:
        """Say what is lacking: also two groups of texts with exactly one concept or none."""
        why_not = super().missing(ctx)
        if why_not is None and not any(len(_groups(c)) > 1 for c in ctx.chosen):
            return (
                f"it needs two groups of {MIN_TEXTS} texts that have one concept and no other, "
                "and the concepts always come together; give other labelled texts"
            )
        return why_not

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure; the table `separability` has a row for each concept."""
        found = []
        for pooled in ctx.pooled:
            groups = _groups(pooled.chosen)
            if len(groups) > 1:
                found.append(_measure(pooled, groups, ctx.seed))
        rows = [_row(name, figure, found, ctx.seed) for name, figure in _FIGURES.items()]
        return Findings(tuple(rows), tables=(_table(found),))


@dataclass(frozen=True)
class _Found:
    data: str
    groups: tuple[str, ...]
    latents: Separation
    neurons: Separation


def _groups(chosen: Chosen) -> dict[str, Ints]:
    """Texts of exactly one concept, and of none; groups too small beside the others left out."""
    alone = chosen.member.sum(1) == 1
    found = {
        concept: np.flatnonzero(chosen.member[:, i] & alone)
        for i, concept in enumerate(chosen.concepts)
    }
    found["(none)"] = np.flatnonzero(~chosen.member.any(1))
    sizes = [len(rows) for rows in found.values() if len(rows) >= MIN_TEXTS]
    least = max(MIN_TEXTS, int(np.median(sizes)) // 4) if sizes else MIN_TEXTS
    return {name: rows for name, rows in found.items() if len(rows) >= least}


def _measure(pooled: PooledTexts, groups: dict[str, Ints], seed: int) -> _Found:
    rng = np.random.default_rng([seed, 0x6A])
    n = min(PER_CONCEPT, *map(len, groups.values()))
    rows = np.concatenate([rng.choice(members, n, replace=False) for members in groups.values()])
    group = np.repeat(np.arange(len(groups)), n)
    with progress.task("separability", total=2, unit="kinds of unit") as task:
        latents = separation(pooled.latents[rows], group, seed=seed, n_choices=pooled.x.shape[1])
        task.advance()
        neurons = separation(pooled.x[rows], group, seed=seed)
        task.advance()
    return _Found(pooled.chosen.name, tuple(groups), latents, neurons)


def _row(name: str, figure: Figure, found: list[_Found], seed: int) -> Measurement:
    """A mean over data sets (means, nulls) or over the groups of all (best units)."""
    latents, neurons = [f.latents for f in found], [f.neurons for f in found]
    side = neurons if name.endswith("neurons") else latents
    if name.startswith("null"):
        return figure.measured(float(np.mean([s.null for s in side])))
    if not name.startswith("best"):
        return figure.measured(
            float(np.mean([s.mean for s in side])), stderr=_pooled([s.stderr for s in side])
        )
    values = np.concatenate([s.equal if name == "best_equal" else s.excess for s in side])
    return figure.measured(
        values.mean(),
        stderr=_pooled([s.best_stderr for s in side]),
        stderr_concepts=mean_stderr(values, seed=seed),
    )


def _pooled(stderrs: list[float]) -> float:
    """Standard error of a mean of independent values."""
    return float(np.sqrt(np.square(stderrs).sum()) / len(stderrs))


def _table(found: list[_Found]) -> Table:
    rows: tuple[tuple[str | float, ...], ...] = tuple(
        (f.data, name, float(f.latents.best[i]), float(f.latents.excess[i]),
         float(f.latents.equal[i]), float(f.neurons.best[i]), float(f.neurons.excess[i]))
        for f in found
        for i, name in enumerate(f.groups)
    )  # fmt: skip
    return Table(
        "separability",
        "each concept: the latent and the coordinate that separate it best, held-out excess",
        ("data", "concept", "latent", "best_latent", "best_equal", "neuron", "best_neuron"),
        rows,
    )
