"""Gathered dot products in Triton: one program takes a few entries through all columns.

Entries of one token lie next to each other, so their common row of g is read from the cache.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from saetools_kernels._launch import COMPILE_OPTIONS, column_block, on_device_of

__all__ = ["gathered_dots", "gathered_dots_fwd_kernel"]

_ENTRIES = 16


def gathered_dots(g: Tensor, W: Tensor, rows: Tensor, latents: Tensor) -> Tensor:
    """Return ⟨g[rows[j]], W[latents[j]]⟩ for every entry j, shape (nnz,), dtype of g."""
    n_entries, d = len(rows), g.shape[1]
    out = torch.empty(n_entries, dtype=g.dtype, device=g.device)
    if n_entries == 0:
        return out
    with on_device_of(g):
        gathered_dots_fwd_kernel[(triton.cdiv(n_entries, _ENTRIES),)](
            g.contiguous(),
            W.contiguous(),
            rows.contiguous(),
            latents.contiguous(),
            out,
            n_entries,
            D=d,
            BLOCK_K=_ENTRIES,
            BLOCK_D=column_block(d) if d else 16,
            **COMPILE_OPTIONS,
        )
    return out


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def gathered_dots_fwd_kernel(  # type: ignore[no-untyped-def]
    g_ptr,
    W_ptr,
    rows_ptr,
    latents_ptr,
    out_ptr,
    n_entries,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write out[j] = Σ_c g[rows[j], c] · W[latents[j], c] for a block of entries."""
    entries = tl.program_id(0).to(tl.int64) * BLOCK_K + tl.arange(0, BLOCK_K)
    exists = entries < n_entries
    row = tl.load(rows_ptr + entries, mask=exists, other=0).to(tl.int64)
    latent = tl.load(latents_ptr + entries, mask=exists, other=0).to(tl.int64)
    total = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        columns = start + tl.arange(0, BLOCK_D)
        live = exists[:, None] & (columns < D)[None, :]
        left = tl.load(g_ptr + row[:, None] * D + columns[None, :], mask=live, other=0.0)
        right = tl.load(W_ptr + latent[:, None] * D + columns[None, :], mask=live, other=0.0)
        total += tl.sum(left.to(tl.float32) * right.to(tl.float32), axis=1)
    tl.store(out_ptr + entries, total.to(out_ptr.dtype.element_ty), mask=exists)
