"""Nested reconstructions of a batch: their errors and all that their gradients need, in one pass.

A token's active latents fall into levels 0..L−1. Reconstruction l uses levels 0..l:

    x_hat_l = Σ_{m ≤ l} block_m      r_l = target − x_hat_l      loss = Σ_l weights[l] · Σ ‖r_l‖²

One level is TopK; levels by index are Matryoshka widths; levels by rank are nested k. The blocks
take one gather together, and the gradient of block l is −2 · Σ_{m ≥ l} weights[m] · r_m, so every
further level costs a pass over (n, d) and no gather.

Where the dictionary is shared by processes, each one's blocks are a part of the sum. Where the rows
are, each has the factors of its own, and `of_all_rows` brings them together: a few rows a token, so
far less than the gradients that they stand for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from saetools.sae import ops
from saetools.sae.scratch import Scratch
from saetools.sae.selection import Selection, count_bounds
from saetools.sae.sharing import ALONE, Ranks

__all__ = ["Levels", "NestedFit", "nested_fit", "of_all_rows"]


class Levels(NamedTuple):
    """Active latents ordered by (token, level).

    bags (nnz,) is token · n_levels + level of each entry; bounds (n · n_levels + 1,) says where
    each bag begins; weights has a positive number a level. own is the level at which the SAE is
    read, whose figures are reported: the last, unless the levels beyond it only help in training.
    """

    chosen: Selection
    bags: Int[Tensor, " nnz"]
    bounds: Int[Tensor, " bags1"]
    weights: Sequence[float]
    own: int = -1

    def values(self) -> Float[Tensor, " nnz"]:
        """Values of the entries that belong to the level `own`, 0 of the others."""
        if self.own in (-1, len(self.weights) - 1):
            return self.chosen.values
        kept = self.bags % len(self.weights) <= self.own
        return torch.where(kept, self.chosen.values, 0.0)


class NestedFit(NamedTuple):
    """Errors of the nested reconstructions, and their gradients in factored form.

    errors (n_levels,): Σ over tokens of ‖r_l‖², before the weights. sources (n · n_levels, d):
    Σ_{m ≥ l} weights[m] · r_m of token i in row i · n_levels + l. dots (nnz,): the product of each
    entry's source with its row of W_dec.
    """

    errors: Float[Tensor, " n_levels"]
    sources: Float[Tensor, "bags d"]
    dots: Float[Tensor, " nnz"]
    weights: Sequence[float]

    def residual(self, level: int) -> Float[Tensor, "n d"]:
        """r_level, a fresh tensor; −1 is the last level."""
        level %= len(self.weights)
        by_level = rearrange(self.sources, "(n l) d -> n l d", l=len(self.weights))
        own = by_level[:, level]
        if own.dtype == torch.bfloat16:
            own = own.float()
        if level + 1 < len(self.weights):
            own = own - by_level[:, level + 1]
        return own / self.weights[level]


@torch.no_grad()
def nested_fit(
    levels: Levels,
    W_dec: Float[Tensor, "n_latents d"],
    target: Float[Tensor, "n d"],
    scratch: Scratch,
    latents: Ranks = ALONE,
) -> NestedFit:
    """Reconstruct `target` at all levels; without autograd. `latents`: who shares W_dec.

    W_dec may be a copy in 16 bits; sources then have its precision, and sums are float32.
    """
    chosen, weights = levels.chosen, levels.weights
    n, d = target.shape
    sources = scratch.take("sources", (n * len(weights), d), W_dec)
    entries = (chosen.values, chosen.latents, levels.bounds, W_dec)
    if latents.size == 1:
        residual = scratch.take("residual", (n, d), W_dec)
        found = ops.nested_decode(
            *entries, target, weights, out_sources=sources, out_residual=residual
        )
        return NestedFit(found.errors, found.sources, found.dots, weights)
    # Each process decodes its own latents; the sum of their parts is what leaves a residual.
    blocks = latents.sum(ops.bag_decode_into(*entries, out=sources))
    by_level = rearrange(blocks, "(n l) d -> n l d", l=len(weights))
    errors = ops.residual_sums(by_level, target, weights)
    dots = ops.gathered_dots(blocks, W_dec, levels.bags, chosen.latents)
    return NestedFit(errors, blocks, dots, weights)


def of_all_rows(levels: Levels, fit: NestedFit, rows: Ranks) -> tuple[Levels, NestedFit]:
    """Levels and fit of the whole batch, from those of each rank's rows."""
    if rows.size == 1:
        return levels, fit
    n_levels = len(fit.weights)
    n = rows.total(levels.chosen.n_tokens)
    first = rows.span(n).start * n_levels
    # 32 bits, as numbers of bags and latents are small and this is what travels.
    bags = rows.gather((levels.bags + first).int()).long()
    token = bags.div(n_levels, rounding_mode="floor")
    chosen = Selection(
        rows.gather(levels.chosen.values),
        token,
        rows.gather(levels.chosen.latents.int()).long(),
        count_bounds(token, n),
    )
    whole = levels._replace(chosen=chosen, bags=bags, bounds=count_bounds(bags, n * n_levels))
    errors = rows.sum(fit.errors)
    return whole, NestedFit(errors, rows.gather(fit.sources), rows.gather(fit.dots), fit.weights)
