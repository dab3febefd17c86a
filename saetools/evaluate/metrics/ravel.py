"""RAVEL: can one attribute of an entity be exchanged through latents while the others stay?

At the last token of the entity, latents of a source entity are put into a base prompt where a mask
says so (Huang et al. 2024, arXiv:2402.17700; masks as in SAEBench, Karvonen et al. 2025,
arXiv:2503.09532):

    cause      = share of prompts for the exchanged attribute that now answer as the source does
    isolation  = share of prompts for other attributes that answer as before
    score      = mean of both

by the first token of the answer, on questions that the model answers rightly, for entities that the
mask was not found on; means over attributes. The decoder's output alone is given to the model
(`Ravel(RavelConfig(keep_error=True))` adds the reconstruction error).

Arms: `learned` (a mask found by gradients), `selected` (latents that differ between the attribute's
values, no gradients), and what they are to be compared with: `full`, the source's whole activation
(cause near 1, isolation low: an SAE must lie above its score), `none`, nothing exchanged (cause 0,
isolation 1), and `reconstructed`, the base's own latents, whose isolation is what the SAE's error
leaves of the answers.
"""

import math

from saetools.evaluate.base import METRICS, Figure, Findings, Measurement, Metric
from saetools.evaluate.context import MetricContext
from saetools.evaluate.ravel import RavelArm, RavelConfig, ravel
from saetools.models.base import LanguageModel

__all__ = ["Ravel"]

_HOW = {
    "learned": "with a learned mask over latents",
    "selected": "with latents that differ between the attribute's values",
    "reconstructed": "with the base's own latents",
    "full": "with the source's whole activation",
    "none": "with nothing exchanged",
}
_WHAT = {
    "cause": "share of prompts that answer with the source's attribute",
    "isolation": "share of prompts for other attributes that answer as before",
    "score": "mean of cause and isolation",
}
_FIGURES = {
    (arm, part): Figure(
        f"ravel_{part}_{arm}",
        f"{what}, {how}",
        "higher" if arm in ("learned", "selected") else "none",
        (0.0, 1.0),
    )
    for arm, how in _HOW.items()
    for part, what in _WHAT.items()
}
_ATTRIBUTES = Figure(
    "ravel_attributes", "number of attributes that could be measured", "none", (0.0, math.inf)
)
_KNOWN = Figure(
    "ravel_known_fraction", "share of questions that the model answers rightly", "none", (0.0, 1.0)
)


@METRICS.register("ravel")
class Ravel(Metric):
    """Cause and isolation of attributes exchanged through latents.

    Args:
        config: settings of the exchange and of the masks.
    """

    figures = (*_FIGURES.values(), _ATTRIBUTES, _KNOWN)
    needs = "language_model"
    one_hook = "it puts what is decoded where the SAE reads"

    def __init__(self, config: RavelConfig | None = None) -> None:
        self._config = config or RavelConfig()

    def missing(self, ctx: MetricContext) -> str | None:
        """Say that there is no language model, or that no question has an entity and attribute."""
        if ctx.model is None or ctx.model.kind != self.needs:
            return "it runs a language model and none was given; pass model=load_model(...)"
        if any(question.entity and question.attribute for question in ctx.questions):
            return None
        return (
            "it needs questions= with entities and attributes, e.g. from load_ravel or a planted "
            "world; pass them"
        )

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure all arms."""
        assert isinstance(ctx.model, LanguageModel)
        found = ravel(
            ctx.model,
            ctx.sae,
            ctx.questions,
            hook_name=ctx.hook_name,
            config=self._config,
            seed=ctx.seed,
        )
        if found.skipped is not None:
            return Findings((), skipped=found.skipped)
        rows = [_measured(found.arms[arm], arm, part) for arm, part in _FIGURES]
        rows.append(_ATTRIBUTES.measured(len(found.attributes)))
        rows.append(_KNOWN.measured(found.n_known / found.n_asked))
        return Findings(tuple(rows))


def _measured(arm: RavelArm, name: str, part: str) -> Measurement:
    value, error = getattr(arm, part), getattr(arm, f"{part}_stderr")
    return _FIGURES[name, part].measured(value, stderr=error)
