"""The k largest elements of every row, exactly.

    values[i] = the k largest of x[i];   x[i, indices[i, j]] = values[i, j]

The order of the k columns is not part of the promise. Among equal elements the reference keeps the
lowest index; the torch path keeps any of them. NaN counts as largest. There is no Triton kernel
for this op: on every device it runs the torch path.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from saetools_kernels._checks import check_floats, check_shape
from saetools_kernels._dispatch import choose
from saetools_kernels._errors import KernelInputError
from saetools_kernels.topk_rows import cpu, reference

__all__ = ["TopK", "topk_rows_forward"]


class TopK(NamedTuple):
    """The k largest elements of every row, shapes (n, k), in no promised order."""

    values: Tensor
    indices: Tensor


@torch.no_grad()
def topk_rows_forward(x: Tensor, k: int) -> TopK:
    """Select the k largest elements of every row, without autograd.

    Args:
        x: shape (n, n_latents).
        k: how many to keep, from 0 to n_latents.

    Returns:
        Values of the dtype of x and int64 indices, both of shape (n, k).
    """
    op = "topk_rows"
    check_floats(op, device=x.device, x=x)
    check_shape(op, "x", x, {"n": None, "n_latents": None})
    if not 0 <= k <= x.shape[1]:
        raise KernelInputError(
            f"{op}: k is {k}; it must lie from 0 to the width of x, {x.shape[1]}."
        )
    path = reference if choose(op, x, has_triton=False) == "reference" else cpu
    return TopK(*path.topk_rows(x, k))
