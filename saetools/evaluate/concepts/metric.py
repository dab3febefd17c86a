"""What metrics of concepts share: when they can run, and figures with both errors."""

from collections.abc import Mapping

from saetools.evaluate.base import Figure, Measurement, Metric
from saetools.evaluate.bootstrap import Floats, mean_stderr
from saetools.evaluate.concepts.choose import MIN_CELL, MIN_TEXTS
from saetools.evaluate.concepts.scores import spread
from saetools.evaluate.context import MetricContext

__all__ = ["ConceptMetric", "PairMetric", "means_over_concepts"]


def means_over_concepts(draws: Mapping[Figure, Floats], *, seed: int) -> tuple[Measurement, ...]:
    """Mean of each figure over concepts, with its errors over texts and over concepts.

    Args:
        draws: values (n_concepts, n_draws) by figure; the first draw is the texts as they are.
        seed: of the resampling of concepts.
    """
    return tuple(
        figure.measured(
            values[:, 0].mean(),
            stderr=spread(values.mean(0)),
            stderr_concepts=mean_stderr(values[:, 0], seed=seed),
        )
        for figure, values in draws.items()
    )


class ConceptMetric(Metric):
    """A metric of labelled texts, read off the store where the corpus' own labels are used."""

    def missing(self, ctx: MetricContext) -> str | None:
        """Say what is lacking: a model for labelled texts, or two concepts with enough texts."""
        if ctx.labelled and ctx.model is None:
            return "it runs the model on labelled texts and no model was given; pass model="
        if any(len(chosen.concepts) >= 2 for chosen in ctx.chosen):
            return None
        counts = max((len(chosen.concepts) for chosen in ctx.chosen), default=0)
        return (
            f"it needs two concepts with {MIN_TEXTS} texts each, and {MIN_TEXTS} without; "
            f"{_where(ctx)} {counts}; give evaluate.labelled=[FILE,...]"
        )


class PairMetric(ConceptMetric):
    """A metric of two concepts that occur together, apart, and not at all."""

    def missing(self, ctx: MetricContext) -> str | None:
        """Say what is lacking: also a pair of concepts with enough texts of each combination."""
        why_not = super().missing(ctx)
        if why_not is None and not any(chosen.pairs for chosen in ctx.chosen):
            return (
                f"it needs two concepts with {MIN_CELL} texts of each combination (both, one, the "
                f"other, neither), and {_where(ctx)} none; give texts with several concepts each: "
                "evaluate.labelled=[FILE,...]"
            )
        return why_not


def _where(ctx: MetricContext) -> str:
    names = ", ".join(chosen.name for chosen in ctx.chosen)
    return f"{names} has" if ctx.labelled else f"the {ctx.split} documents of {names} have"
