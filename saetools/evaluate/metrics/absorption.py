"""Absorption: how often a concept's own latents are silent while others carry it.

With planted `concepts` that have parents, the concepts are the parents and are measured where one
of their children is on; without, they are the first letters of words (Chanin et al. 2024,
arXiv:2409.14507; the formulas are in `saetools.evaluate.absorption.formulas`).

    absorption_full      = share of tokens whose concept other latents carry alone
    absorption_fraction  = mean part of the concept that other latents carry
    hole_rate            = P(the concept's main latent is silent | the concept is on)
    split_latents        = mean number of latents that it takes to read a concept (splitting)

The first two are of tokens that the concept's linear probe gets right. All are means over concepts
whose probe has F1 of at least 0.6 on documents (or words) it was not fitted on, with 20 tokens or
more; no latent, probe or threshold is chosen on what is measured. Main latent: best F1 of firing.

Read all four together. A parent of few children whose latents all stand in for it is read best by
all of them at once: then they count as split and not as absorbed, and only `hole_rate` and
`split_latents` show it. Absorption falls as L0 grows, whatever the architecture, so compare at one
L0; a dense first latent lowers it cheaply, so look at `dense_fraction`.
"""

import math
import statistics

from saetools.evaluate.absorption import (
    Tally,
    hierarchy_tally,
    letter_tally,
    letters_of,
    vocabulary_words,
)
from saetools.evaluate.base import METRICS, Figure, Findings, Metric
from saetools.evaluate.context import MetricContext

__all__ = ["Absorption"]

_FULL = Figure(
    "absorption_full",
    "share of tokens with a concept that is carried by other latents than its own",
    "lower",
    (0.0, 1.0),
)
_FRACTION = Figure(
    "absorption_fraction",
    "mean part of a concept that is carried by other latents than its own",
    "lower",
    (0.0, 1.0),
)
_HOLE = Figure(
    "hole_rate", "P(the concept's main latent is silent, the concept is on)", "lower", (0.0, 1.0)
)
_SPLIT = Figure(
    "split_latents", "mean number of latents that it takes to read a concept", "lower", (1.0, 10.0)
)
_CONCEPTS = Figure(
    "absorption_concepts", "number of concepts that could be measured", "none", (0.0, math.inf)
)


@METRICS.register("absorption")
class Absorption(Metric):
    """Full and fractional absorption, hole rate and feature splitting."""

    figures = (_FULL, _FRACTION, _HOLE, _SPLIT, _CONCEPTS)
    needs = "language_model"
    one_hook = "it asks what latents add to the activation that its probes read"

    def missing(self, ctx: MetricContext) -> str | None:
        """Say that there is neither a planted hierarchy nor a vocabulary of words."""
        if ctx.concepts is not None:
            if ctx.concepts.families:
                return None
            return "none of the concepts has a parent; label children with their parents"
        if ctx.model is None or ctx.model.kind != "language_model":
            return (
                "it needs concepts= with parents, or a language model whose vocabulary has words "
                "for the first-letter task; pass one of them"
            )
        words = vocabulary_words(ctx.model.tokenizer)
        if letters_of(words):
            return None
        return (
            f"the vocabulary of {ctx.model.name} has {len(words)} words of one token, and no "
            "letter begins 67 of them, which the first-letter task takes; pass concepts= with "
            "parents"
        )

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure the planted hierarchy if there is one, else the first letters."""
        if ctx.concepts is not None:
            tally = hierarchy_tally(ctx, ctx.concepts)
        else:
            assert ctx.model is not None
            tally = letter_tally(ctx, vocabulary_words(ctx.model.tokenizer))
        why_not = tally.why_not()
        return Findings((), skipped=why_not) if why_not else _findings(tally, seed=ctx.seed)


def _findings(tally: Tally, *, seed: int) -> Findings:
    rows = []
    for figure, above, below in (
        (_FULL, "full", "right"),
        (_FRACTION, "fraction", "right"),
        (_HOLE, "hole", "items"),
    ):
        value, error = tally.rate(above, below, seed=seed)
        rows.append(figure.measured(value, stderr=error))
    sizes = [len(r.split) for r, used in zip(tally.readings, tally.usable, strict=True) if used]
    # The number of latents is a concept's, not a document's, so its error is over concepts.
    spread = statistics.stdev(sizes) / math.sqrt(len(sizes)) if len(sizes) > 1 else math.nan
    rows.append(_SPLIT.measured(statistics.mean(sizes), stderr=spread))
    rows.append(_CONCEPTS.measured(len(sizes)))
    return Findings(tuple(rows))
