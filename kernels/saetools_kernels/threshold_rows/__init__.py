"""Everything above a threshold of its own column: the active latents of a JumpReLU SAE.

    entries = { (i, f) : x[i, f] > thresholds[f] },  in order of row, then column

A token may have any number of entries; `bag_decode(values, latents, bounds, W)` turns them into
reconstructions. Counted first, then written into memory of the right size: on a GPU the size has to
be known, so a call waits for the count. NaN is above nothing. The form here has no autograd.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from saetools_kernels._checks import check_floats, check_shape
from saetools_kernels._dispatch import choose
from saetools_kernels._launch import load_kernel
from saetools_kernels.threshold_rows import cpu, reference

__all__ = ["Entries", "threshold_rows_forward"]


class Entries(NamedTuple):
    """Chosen elements of a matrix with n rows, in order of row, then column.

    values (nnz,); rows and latents (nnz,), int64; bounds (n + 1,), int64: where each row's begin.
    """

    values: Tensor
    rows: Tensor
    latents: Tensor
    bounds: Tensor


@torch.no_grad()
def threshold_rows_forward(x: Tensor, thresholds: Tensor) -> Entries:
    """List the elements that exceed their column's threshold, without autograd.

    Args:
        x: pre-activations, shape (n, n_latents).
        thresholds: one a column, shape (n_latents,), dtype of x or wider.
    """
    op = "threshold_rows"
    check_floats(op, device=x.device, x=x, thresholds=thresholds)
    check_shape(op, "x", x, {"n": None, "n_latents": None})
    check_shape(op, "thresholds", thresholds, {"n_latents": x.shape[1]})
    implementation = choose(op, x, thresholds)
    if implementation == "triton":
        return Entries(*load_kernel(op).threshold_rows(x, thresholds))
    path = reference if implementation == "reference" else cpu
    return Entries(*path.threshold_rows(x, thresholds))
