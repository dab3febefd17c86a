"""Decode in Triton: one program sums one bag over one block of columns.

It gathers a few decoder rows at a time, which keeps several loads in flight, and adds them in a
fixed order. The row of an empty slot (value 0) is not read.
"""

import triton
import triton.language as tl
from torch import Tensor

from saetools_kernels._launch import COMPILE_OPTIONS, column_block, entry_block, on_device_of

__all__ = ["bag_decode", "bag_decode_fwd_kernel"]


def bag_decode(
    values: Tensor, indices: Tensor, offsets: Tensor, W: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """Return the weighted sum of decoder rows of each bag, shape (n_bags, d), dtype of W."""
    n_bags, d = len(offsets) - 1, W.shape[1]
    if out is None:
        out = W.new_empty(n_bags, d)
    if out.numel() == 0:
        return out
    values, indices, W = values.contiguous(), indices.contiguous(), W.contiguous()
    width = column_block(d)
    with on_device_of(W):
        bag_decode_fwd_kernel[(n_bags, triton.cdiv(d, width))](
            values,
            indices,
            offsets.contiguous(),
            W,
            out,
            D=d,
            BLOCK_K=entry_block(triton.cdiv(len(values), n_bags)),
            BLOCK_D=width,
            **COMPILE_OPTIONS,
        )
    return out


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def bag_decode_fwd_kernel(  # type: ignore[no-untyped-def]
    values_ptr,
    indices_ptr,
    offsets_ptr,
    W_ptr,
    out_ptr,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write out[bag, columns] = Σ_j values[j] · W[indices[j], columns]."""
    bag = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_row = columns < D
    entry = tl.load(offsets_ptr + bag).to(tl.int64)
    stop = tl.load(offsets_ptr + bag + 1).to(tl.int64)
    total = tl.zeros((BLOCK_D,), dtype=tl.float32)
    while entry < stop:
        entries = entry + tl.arange(0, BLOCK_K)
        in_bag = entries < stop
        value = tl.load(values_ptr + entries, mask=in_bag, other=0.0).to(tl.float32)
        latent = tl.load(indices_ptr + entries, mask=in_bag, other=0).to(tl.int64)
        at = W_ptr + latent[:, None] * D + columns[None, :]
        live = (value != 0.0)[:, None] & in_row[None, :]
        rows = tl.load(at, mask=live, other=0.0).to(tl.float32)  # (BLOCK_K, BLOCK_D)
        total += tl.sum(rows * value[:, None], axis=0)
        entry += BLOCK_K
    tl.store(out_ptr + bag * D + columns, total.to(out_ptr.dtype.element_ty), mask=in_row)
