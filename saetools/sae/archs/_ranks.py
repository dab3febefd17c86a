"""Levels by rank: reconstruction l uses the sizes[l] largest latents of each token."""

from collections.abc import Sequence

import torch

from saetools.sae.nested import Levels
from saetools.sae.numbers import on_device
from saetools.sae.selection import Selection, count_bounds

__all__ = ["levels_by_rank"]


def levels_by_rank(
    chosen: Selection, sizes: Sequence[int], weights: Sequence[float], *, own: int = -1
) -> Levels:
    """Nest the active latents of each token by the rank of their value.

    Args:
        chosen: at most sizes[-1] entries a token; a token with fewer fills the lower levels.
        sizes: rising numbers of latents.
        weights: of each level in the loss.
        own: level at which the SAE is read.
    """
    order = chosen.values.argsort(descending=True, stable=True)
    order = order[chosen.rows[order].argsort(stable=True)]
    rows, n_levels = chosen.rows[order], len(sizes)
    rank = torch.arange(len(rows), device=rows.device) - chosen.bounds[rows]
    edges = on_device(sizes[:-1], dtype=torch.int64, device=rows.device)
    bags = rows * n_levels + torch.bucketize(rank, edges, right=True)
    ranked = Selection(chosen.values[order], rows, chosen.latents[order], chosen.bounds)
    return Levels(ranked, bags, count_bounds(bags, chosen.n_tokens * n_levels), tuple(weights), own)
