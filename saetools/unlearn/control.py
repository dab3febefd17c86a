"""A control for edits through SAEs: the same plan with other latents, which fire as often.

What an edit through such latents does, too, is no merit of the ones that were chosen.
"""

from collections.abc import Sequence

import torch

from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.unlearn.base import checked_saes
from saetools.unlearn.plan import Plan, PlannedLatent
from saetools.unlearn.rows import Item, rows_of
from saetools.unlearn.select import read_latents

__all__ = ["random_latents"]


@torch.no_grad()
def random_latents(
    plan: Plan, model: SubjectModel, *, saes: Sequence[SAE], forget: Sequence[Item]
) -> Plan:
    """The plan with each latent replaced by one that fires on the forget rows nearly as often.

    Args:
        plan: of a method that acts through SAEs.
        model: that is to be edited.
        saes: that the plan acts through.
        forget: what the plan was made with.

    Raises:
        ConfigError: the plan has no latents, or no other latent fires on the forget rows.
    """
    rows = rows_of(model, forget)
    latents: list[PlannedLatent] = []
    for hook, sae in checked_saes(model, tuple(saes), strict=False).items():
        rate, _ = read_latents(model, sae, rows, hook_name=hook)
        taken = {one.latent for one in plan.of(hook)}
        for one in plan.of(hook):
            order = (rate - one.forget_rate).abs().argsort(stable=True).tolist()
            other = next((j for j in order if j not in taken and rate[j] > 0), None)
            if other is None:
                break
            taken.add(other)
            latents.append(PlannedLatent(hook, other, float(rate[other]), 0.0, 0.0))
    return plan.with_latents(tuple(latents))
