"""The k largest elements of every row, exactly.

    values[i] = the k largest of x[i];   x[i, indices[i, j]] = values[i, j]

Among equal elements the lowest index is kept, on every path, and the k columns stand in ascending
order of index. NaN counts as largest; -0 and 0 are equal.

`topk_merge` is the streaming form: it takes the result for the columns so far and the next block of
columns, so an encoder product can run in column blocks and never be whole in memory:

    best = None
    for first, block in blocks:                       # in ascending order of columns
        best = topk_merge(best, block, k, first=first)
"""

from typing import NamedTuple

import torch
from torch import Tensor

from saetools_kernels._checks import check_floats, check_indices, check_out, check_shape
from saetools_kernels._dispatch import choose
from saetools_kernels._errors import KernelInputError
from saetools_kernels._launch import load_kernel
from saetools_kernels.topk_rows import cpu, reference

__all__ = ["TopK", "topk_merge_forward", "topk_rows_forward"]

_MAX_TRITON_K = 512  # 8 · k candidates of a row are ranked in the registers of one program


class TopK(NamedTuple):
    """The k largest elements of every row, shapes (n, k), in ascending order of index."""

    values: Tensor
    indices: Tensor


@torch.no_grad()
def topk_rows_forward(x: Tensor, k: int, *, out: TopK | None = None) -> TopK:
    """Select the k largest elements of every row, without autograd.

    Args:
        x: shape (n, n_latents).
        k: how many to keep, from 0 to n_latents; above 512 the Triton kernel is not used.
        out: buffers to write, contiguous: values of the dtype of x and int64 indices, both (n, k).

    Returns:
        Values of the dtype of x and int64 indices, both of shape (n, k).
    """
    op = "topk_rows"
    _check(op, x)
    if not 0 <= k <= x.shape[1]:
        raise KernelInputError(
            f"{op}: k is {k}; it must lie from 0 to the width of x, {x.shape[1]}."
        )
    implementation = choose(op, x, has_triton=k <= _MAX_TRITON_K)
    if out is not None:
        shape = (len(x), k)
        check_out(op, out.values, shape=shape, dtype=x.dtype, device=x.device, name="out.values")
        check_out(
            op, out.indices, shape=shape, dtype=torch.int64, device=x.device, name="out.indices"
        )
    if implementation == "triton":
        return TopK(*load_kernel("topk_rows").topk_rows(x, k, out=out))
    path = reference if implementation == "reference" else cpu
    found = TopK(*path.topk_rows(x, k))
    if out is None:
        return found
    return TopK(out.values.copy_(found.values), out.indices.copy_(found.indices))


@torch.no_grad()
def topk_merge_forward(best: TopK | None, x: Tensor, k: int, *, first: int = 0) -> TopK:
    """Add a block of columns to the k largest of the columns before it, without autograd.

    Args:
        best: what this function returned for the columns before, on the same device; None at first.
        x: the block, shape (n, n_columns).
        k: how many to keep in the end, at least 0.
        first: number of the block's first column; every index in `best` is below it.

    Returns:
        The k largest of all columns so far (all of them while there are fewer than k). After the
        last block it holds the same entries as `topk_rows` of the whole row, ties included.
    """
    op = "topk_merge"
    _check(op, x)
    if k < 0 or first < 0:
        raise KernelInputError(f"{op}: k is {k} and first is {first}; neither may be negative.")
    found = topk_rows_forward(x, min(k, x.shape[1]))
    found = TopK(found.values, found.indices + first)
    if best is None:
        return found
    check_floats(op, device=x.device, **{"best.values": best.values})
    check_shape(op, "best.values", best.values, {"n": len(x), "k": None})
    check_shape(op, "best.indices", best.indices, {"n": len(x), "k": best.values.shape[1]})
    check_indices(op, "best.indices", best.indices, device=x.device, size=first)
    if best.values.dtype != x.dtype:
        raise KernelInputError(
            f"{op}: x is {x.dtype}; wanted the dtype of best.values, {best.values.dtype}."
        )
    values = torch.cat([best.values, found.values], dim=1)
    indices = torch.cat([best.indices, found.indices], dim=1)
    k = min(k, values.shape[1])
    if choose(op, x, has_triton=k <= _MAX_TRITON_K) == "triton":
        return TopK(*load_kernel("topk_rows").merge(values, indices, k))
    return TopK(*cpu.merge(values, indices, k))


def _check(op: str, x: Tensor) -> None:
    check_floats(op, device=x.device, x=x)
    check_shape(op, "x", x, {"n": None, "n_latents": None})
