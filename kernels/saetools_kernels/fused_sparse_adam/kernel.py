"""Adam in Triton: one program takes one latent's row from its list of entries to its new weights.

The row's gradient is summed in registers, made orthogonal to the row, used and forgotten; weights
and moments are read and written once. Lists are sorted by latent, so there are no atomics and one
order of addition. A latent that fires very often would keep one program busy long after the others
have ended: lists longer than `_SPLIT` are cut into pieces, which a first kernel sums and the second
adds up in order. How many pieces there are is bounded by the number of entries, so nothing waits
for the device.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from saetools_kernels._launch import COMPILE_OPTIONS, column_block, on_device_of
from saetools_kernels.fused_sparse_adam.gradient import RowGradient, RowSums
from saetools_kernels.fused_sparse_adam.settings import AdamSettings

__all__ = ["adam_fwd_kernel", "fused_sparse_adam", "row_options", "split_sums_fwd_kernel"]

_SPLIT = 1024


class _Term(NamedTuple):
    """One sum over entries as the kernel reads it; long lists are rows of `partial` instead."""

    values: Tensor
    rows: Tensor
    offsets: Tensor
    source: Tensor
    pieces: Tensor
    partial: Tensor


def fused_sparse_adam(
    W: Tensor,
    m: Tensor,
    v: Tensor,
    gradient: RowGradient,
    settings: AdamSettings,
    shadow: Tensor | None = None,
) -> None:
    """Change W, m, v and the shadow in place by one step."""
    if W.numel() == 0:
        return
    s, d = settings, W.shape[1]
    terms = [_term(part) for part in gradient.sums]
    nothing = _Term(*[W] * 6)  # never read
    first, second = [*terms, nothing, nothing][:2]
    place, some = _places(gradient, W)
    whole = W if gradient.whole is None else gradient.whole.contiguous()
    with on_device_of(W):
        adam_fwd_kernel[(len(W),)](
            *(W, m, v, W if shadow is None else shadow),
            *first,
            *second,
            *(place, some, whole),
            s.lr / (1 - s.beta1**s.step),
            s.beta1,
            1 - s.beta1,
            s.beta2,
            1 - s.beta2,
            1 / (1 - s.beta2**s.step),
            s.eps,
            s.scale,
            N_TERMS=len(terms),
            HAS_SOME=bool(gradient.some),
            HAS_WHOLE=gradient.whole is not None,
            HAS_SHADOW=shadow is not None,
            UNIT_ROWS=s.unit_rows,
            D=d,
            **row_options(d),
        )


def row_options(d: int) -> dict[str, int | bool]:
    """Return block sizes and warps for a program that holds whole rows of width d."""
    block = max(16, triton.next_power_of_2(d))
    warps = min(16, max(1, block // 256))
    entries = 4 if block < 4096 else 2
    return {"BLOCK_K": entries, "BLOCK_D": block, **COMPILE_OPTIONS, "num_warps": warps}


def _term(part: RowSums) -> _Term:
    """Cut long lists into pieces and sum those; the tables of pieces are made on the device."""
    values, rows, offsets = part.values.contiguous(), part.rows.contiguous(), part.offsets
    source, n_entries = part.source.contiguous(), len(part.values)
    counts = offsets.diff()
    pieces = torch.zeros_like(offsets)
    if n_entries <= _SPLIT:  # no list can be longer
        return _Term(values, rows, offsets, source, pieces, source)
    torch.cumsum(
        torch.where(counts > _SPLIT, (counts + _SPLIT - 1) // _SPLIT, 0), 0, out=pieces[1:]
    )
    d = source.shape[1]
    # A list of c > _SPLIT entries has fewer than 2 c / _SPLIT pieces.
    partial = torch.empty(2 * n_entries // _SPLIT, d, dtype=torch.float32, device=source.device)
    numbers = torch.arange(len(partial), dtype=pieces.dtype, device=pieces.device)
    owner = torch.searchsorted(pieces[1:], numbers, right=True)
    width = column_block(d)
    with on_device_of(source):
        split_sums_fwd_kernel[(len(partial), triton.cdiv(d, width))](
            *(values, rows, offsets, source, pieces, owner, partial),
            len(counts),
            D=d,
            SPLIT=_SPLIT,
            BLOCK_K=16,
            BLOCK_D=width,
            **COMPILE_OPTIONS,
        )
    return _Term(values, rows, offsets, source, pieces, partial)


def _places(gradient: RowGradient, W: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each latent stands among the rows that are given written out, else -1."""
    if not gradient.some:
        return W, W  # never read
    latents, rows = gradient.some[0]
    place = torch.full((len(W),), -1, dtype=torch.int32, device=W.device)
    numbers = torch.arange(len(latents), dtype=torch.int32, device=W.device)
    return place.index_copy_(0, latents.long(), numbers), rows.contiguous()


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def sum_list(  # type: ignore[no-untyped-def]
    values_ptr,
    rows_ptr,
    source_ptr,
    place,
    stop,
    columns,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Return Σ_j values[j] · source[rows[j], columns] over j from place to stop."""
    total = tl.zeros((BLOCK_D,), dtype=tl.float32)
    while place < stop:
        entries = place + tl.arange(0, BLOCK_K)
        in_list = entries < stop
        value = tl.load(values_ptr + entries, mask=in_list, other=0.0).to(tl.float32)
        row = tl.load(rows_ptr + entries, mask=in_list, other=0).to(tl.int64)
        at = source_ptr + row[:, None] * D + columns[None, :]
        live = (value != 0.0)[:, None] & (columns < D)[None, :]
        rows = tl.load(at, mask=live, other=0.0).to(tl.float32)  # (BLOCK_K, BLOCK_D)
        total += tl.sum(rows * value[:, None], axis=0)
        place += BLOCK_K
    return total


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def split_sums_fwd_kernel(  # type: ignore[no-untyped-def]
    values_ptr,
    rows_ptr,
    offsets_ptr,
    source_ptr,
    pieces_ptr,
    owner_ptr,
    partial_ptr,
    n_latents,
    D: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write the sum of one piece of a long list; zeros where the piece belongs to no list."""
    piece = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    latent = tl.load(owner_ptr + piece).to(tl.int64)
    exists = latent < n_latents
    first = tl.load(pieces_ptr + latent, mask=exists, other=0).to(tl.int64)
    place = tl.load(offsets_ptr + latent, mask=exists, other=0).to(tl.int64)
    end = tl.load(offsets_ptr + latent + 1, mask=exists, other=0).to(tl.int64)
    place = tl.where(exists, place + (piece - first) * SPLIT, 0)
    stop = tl.minimum(place + SPLIT, end)
    total = sum_list(values_ptr, rows_ptr, source_ptr, place, stop, columns, D, BLOCK_K, BLOCK_D)
    tl.store(partial_ptr + piece * D + columns, total, mask=columns < D)


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def sum_term(  # type: ignore[no-untyped-def]
    values_ptr,
    rows_ptr,
    offsets_ptr,
    source_ptr,
    pieces_ptr,
    partial_ptr,
    latent,
    columns,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Return the gradient row of a latent: its list summed, or the pieces of its list."""
    piece = tl.load(pieces_ptr + latent).to(tl.int64)
    last = tl.load(pieces_ptr + latent + 1).to(tl.int64)
    place = tl.load(offsets_ptr + latent).to(tl.int64)
    end = tl.load(offsets_ptr + latent + 1).to(tl.int64)
    stop = tl.where(last > piece, place, end)
    total = sum_list(values_ptr, rows_ptr, source_ptr, place, stop, columns, D, BLOCK_K, BLOCK_D)
    while piece < last:
        at = partial_ptr + piece * D + columns
        total += tl.load(at, mask=columns < D, other=0.0).to(tl.float32)
        piece += 1
    return total


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def adam_fwd_kernel(  # type: ignore[no-untyped-def]
    W_ptr,
    m_ptr,
    v_ptr,
    shadow_ptr,
    values_a,
    rows_a,
    offsets_a,
    source_a,
    pieces_a,
    partial_a,
    values_b,
    rows_b,
    offsets_b,
    source_b,
    pieces_b,
    partial_b,
    place_ptr,
    some_ptr,
    whole_ptr,
    step_size,
    keep_m,
    take_m,
    keep_v,
    take_v,
    correction,
    eps,
    scale,
    N_TERMS: tl.constexpr,
    HAS_SOME: tl.constexpr,
    HAS_WHOLE: tl.constexpr,
    HAS_SHADOW: tl.constexpr,
    UNIT_ROWS: tl.constexpr,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Sum one latent's gradient, project it, step, renormalise, and write what the latent keeps."""
    latent = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_D)
    in_row = columns < D
    at = latent * D + columns
    grad = tl.zeros((BLOCK_D,), dtype=tl.float32)
    if N_TERMS >= 1:
        grad += sum_term(
            values_a,
            rows_a,
            offsets_a,
            source_a,
            pieces_a,
            partial_a,
            latent,
            columns,
            D,
            BLOCK_K,
            BLOCK_D,
        )
    if N_TERMS >= 2:
        grad += sum_term(
            values_b,
            rows_b,
            offsets_b,
            source_b,
            pieces_b,
            partial_b,
            latent,
            columns,
            D,
            BLOCK_K,
            BLOCK_D,
        )
    if HAS_SOME:
        place = tl.load(place_ptr + latent).to(tl.int64)
        place_at = place * D + columns  # negative where the latent has no row there
        given = in_row & (place_at >= 0)
        grad += tl.load(some_ptr + place_at, mask=given, other=0.0).to(tl.float32)
    if HAS_WHOLE:
        grad += tl.load(whole_ptr + at, mask=in_row, other=0.0).to(tl.float32)
    grad *= scale
    row = tl.load(W_ptr + at, mask=in_row, other=0.0).to(tl.float32)
    if UNIT_ROWS:
        grad -= tl.sum(grad * row, axis=0) * row
    m = keep_m * tl.load(m_ptr + at, mask=in_row, other=0.0).to(tl.float32) + take_m * grad
    v = keep_v * tl.load(v_ptr + at, mask=in_row, other=0.0).to(tl.float32) + take_v * grad * grad
    tl.store(m_ptr + at, m.to(m_ptr.dtype.element_ty), mask=in_row)
    tl.store(v_ptr + at, v.to(v_ptr.dtype.element_ty), mask=in_row)
    row -= step_size * m / (tl.sqrt(v * correction) + eps)
    if UNIT_ROWS:
        row = tl.where(in_row, row, 0.0)
        row /= tl.maximum(tl.sqrt(tl.sum(row * row, axis=0)), 1e-12)
    tl.store(W_ptr + at, row.to(W_ptr.dtype.element_ty), mask=in_row)
    if HAS_SHADOW:
        tl.store(shadow_ptr + at, row.to(shadow_ptr.dtype.element_ty), mask=in_row)
