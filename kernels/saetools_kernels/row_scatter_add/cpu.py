"""Scatter rows on the torch path: with entries sorted by latent, a CSR matrix times x."""

import torch
from torch import Tensor

from saetools_kernels._bags import bag_sum
from saetools_kernels._checks import accumulator_dtype

__all__ = ["scatter_ordered", "sum_ordered"]


def scatter_ordered(
    values: Tensor,
    rows: Tensor,
    permutation: Tensor,
    offsets: Tensor,
    x: Tensor,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Return one weighted sum of rows of x a latent, shape (n_latents, d)."""
    return bag_sum(values[permutation], rows[permutation], offsets, x, out=out)


def sum_ordered(values: Tensor, offsets: Tensor) -> Tensor:
    """Return the sum of each latent's values, shape (n_latents,)."""
    wide = values.to(accumulator_dtype(values))
    return torch.segment_reduce(wide, "sum", offsets=offsets.long(), axis=0)
