"""Nested reconstructions in Triton: one program takes one token through one block of columns.

The first walk over the token's entries gathers decoder rows and keeps the residual; at the end of
each level the weighted residual joins the sums of that level and of all before it, which live in
registers. The second walk gathers the same rows, which are still in the cache, for the dot
products. Errors and dot products of a block of columns are partial sums, which the launcher adds in
a fixed order. Nothing of width d but the results is written.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from saetools_kernels._launch import COMPILE_OPTIONS, column_block, entry_block, on_device_of

__all__ = ["prefix_decode", "prefix_decode_fwd_kernel"]


def prefix_decode(
    values: Tensor,
    latents: Tensor,
    bounds: Tensor,
    W: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    sources: Tensor,
    residual: Tensor,
) -> tuple[Tensor, Tensor]:
    """Write sources and residual; return errors (levels,) and dots (nnz,)."""
    (n, d), n_levels, n_entries = target.shape, len(weights), len(values)
    width = column_block(d) if d else 16
    n_blocks = triton.cdiv(d, width)
    errors = torch.empty(n * n_blocks, n_levels, dtype=torch.float32, device=W.device)
    dots = torch.empty(n_blocks, n_entries, dtype=torch.float32, device=W.device)
    if n * n_blocks:
        with on_device_of(W):
            prefix_decode_fwd_kernel[(n, n_blocks)](
                values.contiguous(),
                latents.contiguous(),
                bounds.contiguous(),
                W.contiguous(),
                target.contiguous(),
                weights.to(torch.float32).contiguous(),
                sources,
                residual,
                errors,
                dots,
                n_entries,
                D=d,
                N_LEVELS=n_levels,
                LEVELS=triton.next_power_of_2(n_levels),
                BLOCK_K=entry_block(triton.cdiv(n_entries, n * n_levels)),
                BLOCK_D=width,
                **COMPILE_OPTIONS,
            )
    return errors.sum(0), dots[0] if n_blocks == 1 else dots.sum(0)


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def prefix_decode_fwd_kernel(  # type: ignore[no-untyped-def]
    values_ptr,
    latents_ptr,
    bounds_ptr,
    W_ptr,
    target_ptr,
    weights_ptr,
    sources_ptr,
    residual_ptr,
    errors_ptr,
    dots_ptr,
    n_entries,
    D: tl.constexpr,
    N_LEVELS: tl.constexpr,
    LEVELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write a token's sources, residual, and partial errors and dots over a block of columns."""
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_row = columns < D
    levels = tl.arange(0, LEVELS)[:, None]
    residual = tl.load(target_ptr + token * D + columns, mask=in_row, other=0.0).to(tl.float32)
    sums = tl.zeros((LEVELS, BLOCK_D), dtype=tl.float32)
    for level in range(N_LEVELS):
        entry = tl.load(bounds_ptr + token * N_LEVELS + level).to(tl.int64)
        stop = tl.load(bounds_ptr + token * N_LEVELS + level + 1).to(tl.int64)
        decoded = tl.zeros((BLOCK_D,), dtype=tl.float32)
        while entry < stop:
            entries = entry + tl.arange(0, BLOCK_K)
            in_bag = entries < stop
            value = tl.load(values_ptr + entries, mask=in_bag, other=0.0).to(tl.float32)
            latent = tl.load(latents_ptr + entries, mask=in_bag, other=0).to(tl.int64)
            at = W_ptr + latent[:, None] * D + columns[None, :]
            live = (value != 0.0)[:, None] & in_row[None, :]
            rows = tl.load(at, mask=live, other=0.0).to(tl.float32)  # (BLOCK_K, BLOCK_D)
            decoded += tl.sum(rows * value[:, None], axis=0)
            entry += BLOCK_K
        residual -= decoded
        error_at = errors_ptr + (token * tl.num_programs(1) + block) * N_LEVELS + level
        tl.store(error_at, tl.sum(residual * residual, axis=0))
        weighted = residual * tl.load(weights_ptr + level)
        sums += tl.where(levels <= level, weighted[None, :], 0.0)
    residual = residual.to(residual_ptr.dtype.element_ty)
    tl.store(residual_ptr + token * D + columns, residual, mask=in_row)
    for level in range(N_LEVELS):
        source = tl.sum(tl.where(levels == level, sums, 0.0), axis=0)
        source_at = sources_ptr + (token * N_LEVELS + level) * D + columns
        tl.store(source_at, source.to(sources_ptr.dtype.element_ty), mask=in_row)
        entry = tl.load(bounds_ptr + token * N_LEVELS + level).to(tl.int64)
        stop = tl.load(bounds_ptr + token * N_LEVELS + level + 1).to(tl.int64)
        while entry < stop:
            entries = entry + tl.arange(0, BLOCK_K)
            in_bag = entries < stop
            latent = tl.load(latents_ptr + entries, mask=in_bag, other=0).to(tl.int64)
            at = W_ptr + latent[:, None] * D + columns[None, :]
            live = in_bag[:, None] & in_row[None, :]
            rows = tl.load(at, mask=live, other=0.0).to(tl.float32)
            dots = tl.sum(rows * source[None, :], axis=1)
            tl.store(dots_ptr + block * n_entries + entries, dots, mask=in_bag)
            entry += BLOCK_K
