"""Decode on the torch path: a CSR matrix of bags times the decoder."""

from torch import Tensor

from saetools_kernels._bags import bag_sum

__all__ = ["bag_decode"]


def bag_decode(
    values: Tensor, indices: Tensor, offsets: Tensor, W: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """Return the weighted sum of decoder rows of each bag, shape (n_bags, d)."""
    return bag_sum(values, indices, offsets, W, out=out)
