"""Scatter rows in Triton: one program sums one latent's entries over one block of columns.

Entries are found through the order sorted by latent, so nothing is written twice: no atomics, one
fixed order of addition. A latent that fires very often is one long list in one program; lists are
not split here.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from saetools_kernels._launch import COMPILE_OPTIONS, column_block, entry_block, on_device_of

__all__ = [
    "list_sum_fwd_kernel",
    "row_scatter_add_fwd_kernel",
    "scatter_ordered",
    "sum_ordered",
]

_LIST = 256  # values of a list that one program adds at once


def scatter_ordered(
    values: Tensor,
    rows: Tensor,
    permutation: Tensor,
    offsets: Tensor,
    x: Tensor,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Return one weighted sum of rows of x a latent, shape (n_latents, d), dtype of x."""
    n_latents, d = len(offsets) - 1, x.shape[1]
    if out is None:
        out = x.new_empty(n_latents, d)
    if out.numel() == 0:
        return out
    width = column_block(d)
    with on_device_of(x):
        row_scatter_add_fwd_kernel[(n_latents, triton.cdiv(d, width))](
            values.contiguous(),
            rows.contiguous(),
            permutation,
            offsets,
            x.contiguous(),
            out,
            D=d,
            BLOCK_K=entry_block(triton.cdiv(len(values), n_latents)),
            BLOCK_D=width,
            **COMPILE_OPTIONS,
        )
    return out


def sum_ordered(values: Tensor, offsets: Tensor) -> Tensor:
    """Return the sum of each latent's values, shape (n_latents,), float32."""
    out = torch.empty(len(offsets) - 1, dtype=torch.float32, device=values.device)
    if out.numel() == 0:
        return out
    options = {**COMPILE_OPTIONS, "num_warps": 1}
    with on_device_of(values):
        list_sum_fwd_kernel[(len(out),)](
            values.contiguous(), offsets.contiguous(), out, BLOCK=_LIST, **options
        )
    return out


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def row_scatter_add_fwd_kernel(  # type: ignore[no-untyped-def]
    values_ptr,
    rows_ptr,
    permutation_ptr,
    offsets_ptr,
    x_ptr,
    out_ptr,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write out[latent, columns] = Σ_j values[j] · x[rows[j], columns]."""
    latent = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_row = columns < D
    place = tl.load(offsets_ptr + latent).to(tl.int64)
    stop = tl.load(offsets_ptr + latent + 1).to(tl.int64)
    total = tl.zeros((BLOCK_D,), dtype=tl.float32)
    while place < stop:
        places = place + tl.arange(0, BLOCK_K)
        in_list = places < stop
        entry = tl.load(permutation_ptr + places, mask=in_list, other=0).to(tl.int64)
        value = tl.load(values_ptr + entry, mask=in_list, other=0.0).to(tl.float32)
        row = tl.load(rows_ptr + entry, mask=in_list, other=0).to(tl.int64)
        at = x_ptr + row[:, None] * D + columns[None, :]
        live = (value != 0.0)[:, None] & in_row[None, :]
        rows = tl.load(at, mask=live, other=0.0).to(tl.float32)  # (BLOCK_K, BLOCK_D)
        total += tl.sum(rows * value[:, None], axis=0)
        place += BLOCK_K
    tl.store(out_ptr + latent * D + columns, total.to(out_ptr.dtype.element_ty), mask=in_row)


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def list_sum_fwd_kernel(  # type: ignore[no-untyped-def]
    values_ptr, offsets_ptr, out_ptr, BLOCK: tl.constexpr
):
    """Write the sum of one latent's values."""
    latent = tl.program_id(0).to(tl.int64)
    place = tl.load(offsets_ptr + latent).to(tl.int64)
    stop = tl.load(offsets_ptr + latent + 1).to(tl.int64)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    while place < stop:
        places = place + tl.arange(0, BLOCK)
        total += tl.load(values_ptr + places, mask=places < stop, other=0.0).to(tl.float32)
        place += BLOCK
    tl.store(out_ptr + latent, tl.sum(total, axis=0))
