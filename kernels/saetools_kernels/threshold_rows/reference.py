"""Elements above their column's threshold as the definition reads: compare, then list."""

import torch
from torch import Tensor

__all__ = ["threshold_rows"]


def threshold_rows(x: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return values, rows, latents and bounds of all x[i, f] > thresholds[f]."""
    above = x > thresholds
    rows, latents = above.nonzero(as_tuple=True)
    bounds = torch.cat([rows.new_zeros(1), above.sum(1).cumsum(0)])
    return x[rows, latents], rows, latents, bounds
