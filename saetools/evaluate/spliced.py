"""What metrics share that run the model on the reconstruction: the edits, and when they can run.

spliced   what the SAE makes of the activation takes its place; what a transcoder makes of one
          activation takes the place of another, later in the same forward pass
mean      the mean vector takes that place: a floor
zero      zero does
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from saetools.evaluate.base import Metric
from saetools.evaluate.context import MetricContext
from saetools.evaluate.replace import replaced_by
from saetools.intervene.replacing import find_ends, replacing, wrong_order
from saetools.models.base import Edit

__all__ = ["Edits", "SplicedMetric", "constant_edits", "spliced_edits"]

Edits = Mapping[str, Edit]
"""What is done at which hook."""


class SplicedMetric(Metric):
    """A metric that runs the model on the reconstruction, a transcoder's included."""

    one_hook = None

    def missing(self, ctx: MetricContext) -> str | None:
        """Say what is lacking: also an order in which what is read comes before what is written."""
        why_not = super().missing(ctx)
        if why_not is not None or not ctx.transcodes or ctx.model is None:
            return why_not
        return wrong_order(ctx.model, find_ends(ctx.model, ctx.sae, hook_name=ctx.hook_name))


def spliced_edits(ctx: MetricContext) -> Edits:
    """Put what the SAE makes of the activation where it belongs, at content tokens."""
    assert ctx.model is not None
    return replacing(ctx.sae, find_ends(ctx.model, ctx.sae, hook_name=ctx.hook_name))


def constant_edits(ctx: MetricContext, vector: Tensor | None = None) -> Edits:
    """Put one vector there instead; by default the mean of the store."""
    at: Tensor = ctx.mean if vector is None else vector
    return {ctx.written: replaced_by(at.to(torch.float32))}
