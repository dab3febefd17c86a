"""The k·n largest elements of a whole (n, n_latents) matrix, exactly: BatchTopK's selection.

    entries = the k·n largest x[i, f],  in order of row, then column

Among equal elements the earlier row, then the lower column, is kept. NaN counts as largest; -0 and
0 are equal. A row may get any number of entries. The form here has no autograd.
"""

import torch
from torch import Tensor

from saetools_kernels._checks import check_floats, check_shape
from saetools_kernels._dispatch import choose
from saetools_kernels._errors import KernelInputError
from saetools_kernels._launch import load_kernel
from saetools_kernels.batch_topk import cpu, reference
from saetools_kernels.threshold_rows import Entries

__all__ = ["batch_topk_forward"]


@torch.no_grad()
def batch_topk_forward(x: Tensor, k: int) -> Entries:
    """List the k·n largest elements of the batch, without autograd.

    Args:
        x: pre-activations, shape (n, n_latents).
        k: entries a row on average, from 0 to n_latents.
    """
    op = "batch_topk"
    check_floats(op, device=x.device, x=x)
    check_shape(op, "x", x, {"n": None, "n_latents": None})
    if not 0 <= k <= x.shape[1]:
        raise KernelInputError(
            f"{op}: k is {k}; it must lie from 0 to the width of x, {x.shape[1]}."
        )
    implementation = choose(op, x)
    if implementation == "triton":
        return Entries(*load_kernel(op).batch_topk(x, k))
    path = reference if implementation == "reference" else cpu
    return Entries(*path.batch_topk(x, k))
