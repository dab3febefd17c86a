"""What a training batch is judged by, and what judging it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.sae.sharing import ALONE, Ranks

__all__ = ["FIRED", "Loss", "Objective"]

FIRED = 1e-3
"""A latent fires on a token with a value above this; a smaller one does not count (2406.04093)."""


@dataclass(frozen=True)
class Objective:
    """What a loss needs to know besides the batch and the weights.

    Args:
        variance: Σ over dimensions of the variance of the target, Σ‖y − ȳ‖²/n; squared errors are
            taken as fractions of it.
        dead: latents that AuxK should revive, bool (n_latents,); None leaves AuxK out.
        k_aux: how many dead latents a token may use; None: half of d_in.
        aux_coefficient: weight of AuxK.
        k: active latents a token in this step; None: the config's (other values: annealing of k).
        sparsity: factor on the sparsity term of architectures that have one (warm-up, control).
        draw: number that decides what a loss draws at random, e.g. sampled prefixes.
        hint: a guess of the selection's threshold that may save time and changes no result.
        rows: the processes that share the rows of the batch. All are given the whole batch and get
            the same loss and gradients, those of the whole batch.
        latents: the processes that share the dictionary: the SAE has the latents of one of them.
        compute_dtype: precision of the encoder product that selects; the values that are kept are
            computed again in the precision of the weights. None: the precision of the weights.
        shadows: 16-bit copies of matrices by the name of the parameter, that are read in its place
            (mixed precision); empty: the weights themselves are read.
    """

    variance: float
    dead: Bool[Tensor, " n_latents"] | None = None
    k_aux: int | None = None
    aux_coefficient: float = 1 / 32
    k: int | None = None
    sparsity: Tensor | float = 1.0
    draw: int = 0
    hint: float | None = None
    compute_dtype: torch.dtype | None = None
    shadows: Mapping[str, Tensor] = field(default_factory=dict)
    rows: Ranks = ALONE
    latents: Ranks = ALONE


class Loss(NamedTuple):
    """What one batch costs, and what the trainer needs to know about it.

    total is what is minimised; fvu the batch's squared error at full width over the variance, lower
    is better; aux the AuxK term before its coefficient; counts how many tokens each latent fired on
    with a value above `FIRED`; n_active the number of active latents of the whole batch; lowest the
    smallest active value, infinite when there is none.
    """

    total: Float[Tensor, ""]
    fvu: Float[Tensor, ""]
    aux: Float[Tensor, ""]
    counts: Float[Tensor, " n_latents"]
    n_active: Float[Tensor, ""]
    lowest: Float[Tensor, ""]

    def of_all(self, rows: Ranks, *, share: float = 1.0) -> "Loss":
        """The loss of the whole batch, from those of each rank's rows; without autograd.

        Args:
            rows: who shares the rows.
            share: what total, fvu and aux of this rank count for; 1 where they are parts of a sum.
        """
        means = torch.stack([self.total, self.fvu, self.aux]).detach() * share
        total, fvu, aux = rows.sum(means)
        return Loss(
            total,
            fvu,
            aux,
            rows.sum(self.counts.detach()),
            rows.sum(self.n_active.detach()),
            rows.gather(self.lowest.detach().unsqueeze(0)).min(),
        )
