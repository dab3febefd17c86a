"""Scatter rows: the gradient of the decoder, and of the encoder, as one sum per latent.

    out[f] = Σ_{j: latents[j] = f} values[j] · x[rows[j]]

With x the gradient of the reconstruction it is the decoder's gradient; with x the encoder's input
and values the gradients of the activations it is the encoder's. Its own gradients, with G the
gradient of `out`:

    d values[j] = ⟨x[rows[j]], G[latents[j]]⟩               the op gathered_dots
    d x[r]      = Σ_{j: rows[j] = r} values[j] · G[latents[j]]  this op, roles exchanged

Entries are sorted by latent once (`order_by_latent`), stably, so every sum has a fixed order and
two runs agree to the last bit; there are no atomics. One order serves both weight gradients of a
step: `scatter_ordered`. The forms here have no autograd; `saetools_kernels.gradients` adds it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from saetools_kernels._checks import (
    check_floats,
    check_indices,
    check_offsets,
    check_out,
    check_shape,
)
from saetools_kernels._dispatch import choose
from saetools_kernels._launch import load_kernel
from saetools_kernels.row_scatter_add import cpu, reference

__all__ = [
    "LatentOrder",
    "order_by_latent",
    "row_scatter_add_forward",
    "scatter_ordered",
    "sum_ordered",
]

_INT16_MAX, _INT32_MAX = 2**15 - 1, 2**31 - 1


class LatentOrder(NamedTuple):
    """Entries sorted by latent.

    Args:
        permutation: entry numbers, all entries of latent 0 first, shape (nnz,), int64.
        offsets: where each latent's entries begin, then nnz, shape (n_latents + 1,), int64.
    """

    permutation: Tensor
    offsets: Tensor


@torch.no_grad()
def order_by_latent(latents: Tensor, n_latents: int) -> LatentOrder:
    """Sort entries by latent, keeping the given order within a latent.

    Args:
        latents: latent of each entry, any shape, read in row-major order; int64 or int32.
        n_latents: size of the dictionary.
    """
    check_indices("order_by_latent", "latents", latents, device=latents.device, size=n_latents)
    # Narrow keys sort in a third of the time of int64 ones.
    key_dtype = torch.int64
    if n_latents <= _INT32_MAX:
        key_dtype = torch.int16 if n_latents <= _INT16_MAX else torch.int32
    keys, permutation = torch.sort(latents.reshape(-1).to(key_dtype), stable=True)
    bounds = torch.arange(n_latents + 1, dtype=key_dtype, device=latents.device)
    return LatentOrder(permutation, torch.searchsorted(keys, bounds))


@torch.no_grad()
def row_scatter_add_forward(
    values: Tensor,
    rows: Tensor,
    latents: Tensor,
    x: Tensor,
    n_latents: int,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Add weighted rows of x up by latent, without autograd.

    Args:
        values: weights, shape (nnz,).
        rows: row of x of each weight, shape (nnz,), int64 or int32.
        latents: latent of each weight, shape (nnz,), int64 or int32.
        x: rows to add up, shape (n, d).
        n_latents: number of rows of the result.
        out: buffer to write, shape (n_latents, d), dtype of x.

    Returns:
        One sum a latent, shape (n_latents, d), dtype of x; zeros where a latent has no entry.
    """
    op = "row_scatter_add"
    check_shape(op, "values", values, {"nnz": None})
    check_shape(op, "latents", latents, {"nnz": len(values)})
    check_indices(op, "latents", latents, device=values.device, size=n_latents)
    if choose(op, values, x) == "reference":
        _check(op, values, rows, x)
        check_out(op, out, shape=(n_latents, x.shape[1]), dtype=x.dtype, device=x.device)
        result = reference.row_scatter_add(values, rows, latents, x, n_latents)
        return result if out is None else out.copy_(result)
    return scatter_ordered(values, rows, order_by_latent(latents, n_latents), x, out=out)


@torch.no_grad()
def scatter_ordered(
    values: Tensor, rows: Tensor, order: LatentOrder, x: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """Do the same as `row_scatter_add_forward` with an order made once and used several times."""
    op = "row_scatter_add"
    _check(op, values, rows, x)
    check_shape(op, "order.permutation", order.permutation, {"nnz": len(values)})
    shape = (len(order.offsets) - 1, x.shape[1])
    check_out(op, out, shape=shape, dtype=x.dtype, device=x.device)
    if choose(op, values, x) == "triton":
        kernel = load_kernel("row_scatter_add")
        summed: Tensor = kernel.scatter_ordered(values, rows, *order, x, out=out)
        return summed
    return cpu.scatter_ordered(values, rows, *order, x, out=out)


@torch.no_grad()
def sum_ordered(values: Tensor, offsets: Tensor) -> Tensor:
    """Add up the values of each latent: the gradient of the encoder's bias.

    Args:
        values: ordered by latent, shape (nnz,).
        offsets: where each latent's values begin, then nnz, shape (n_latents + 1,).

    Returns:
        One sum a latent, shape (n_latents,), float32 (float64 for float64 values).
    """
    op = "sum_ordered"
    check_floats(op, device=values.device, values=values)
    check_shape(op, "values", values, {"nnz": None})
    check_offsets(op, "offsets", offsets, device=values.device, n_entries=len(values))
    if choose(op, values) == "triton":
        kernel = load_kernel("row_scatter_add")
        summed: Tensor = kernel.sum_ordered(values, offsets)
        return summed
    return cpu.sum_ordered(values, offsets)


def _check(op: str, values: Tensor, rows: Tensor, x: Tensor) -> None:
    check_floats(op, device=values.device, values=values, x=x)
    check_shape(op, "values", values, {"nnz": None})
    check_shape(op, "x", x, {"n": None, "d": None})
    check_shape(op, "rows", rows, {"nnz": len(values)})
    check_indices(op, "rows", rows, device=values.device, size=len(x))
