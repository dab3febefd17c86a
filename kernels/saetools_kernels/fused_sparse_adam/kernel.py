"""Adam in Triton: one program takes one latent's row from its list of entries to its new weights.

The row's gradient is summed in registers, made orthogonal to the row, used and forgotten; weights
and moments are read and written once. Lists are sorted by latent, so there are no atomics and one
order of addition.

A latent that fires very often would keep one program busy long after the others have ended. So the
sorted entries are cut into stretches of `SPLIT`, and a first kernel sums what lists longer than
that have in each stretch; the second adds those sums up in order. Such a list goes beyond at least
one end of every stretch that it touches, so a stretch has at most two of them. Where they are is
known from the offsets alone: no table is made, and nothing waits for the device.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from saetools_kernels._launch import COMPILE_OPTIONS, column_block, on_device_of
from saetools_kernels.fused_sparse_adam.gradient import RowGradient, RowSums
from saetools_kernels.fused_sparse_adam.settings import AdamSettings

__all__ = [
    "adam_fwd_kernel",
    "adam_whole_fwd_kernel",
    "fused_sparse_adam",
    "row_options",
    "split_sums_fwd_kernel",
]

_SPLIT = 1024
_FLAT_BLOCK = 1024


class _Term(NamedTuple):
    """One sum over entries as the kernel reads it; `partial` has what long lists add up to."""

    values: Tensor
    rows: Tensor
    offsets: Tensor
    source: Tensor
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
    numbers = (
        s.lr / (1 - s.beta1**s.step),
        s.beta1,
        1 - s.beta1,
        s.beta2,
        1 - s.beta2,
        1 / (1 - s.beta2**s.step),
        s.eps,
        s.scale,
    )
    whole = W if gradient.whole is None else gradient.whole.contiguous()
    state = (W, m, v, W if shadow is None else shadow)
    with on_device_of(W):
        if gradient.is_whole and not s.unit_rows:  # elements step on their own: biases do
            adam_whole_fwd_kernel[(triton.cdiv(W.numel(), _FLAT_BLOCK),)](
                *(*state, whole, W.numel(), *numbers),
                HAS_SHADOW=shadow is not None,
                BLOCK=_FLAT_BLOCK,
                **COMPILE_OPTIONS,
            )
            return
        terms = [_term(part) for part in gradient.sums]
        nothing = _Term(*[W] * 5)  # never read
        first, second = [*terms, nothing, nothing][:2]
        place, some = _places(gradient, W)
        adam_fwd_kernel[(len(W),)](
            *(*state, *first, *second, place, some, whole, *numbers),
            N_TERMS=len(terms),
            HAS_SOME=bool(gradient.some),
            HAS_WHOLE=gradient.whole is not None,
            HAS_SHADOW=shadow is not None,
            UNIT_ROWS=s.unit_rows,
            SPLIT=_SPLIT,
            D=d,
            **row_options(d),
        )


def row_options(d: int) -> dict[str, int | bool]:
    """Return block sizes and warps for a program that holds whole rows of width d."""
    block = max(16, triton.next_power_of_2(d))
    warps = max(1, min(16, block // 128))
    entries = 4 if block < 4096 else 2
    return {"BLOCK_K": entries, "BLOCK_D": block, **COMPILE_OPTIONS, "num_warps": warps}


def _term(part: RowSums) -> _Term:
    """Sum what long lists have in each stretch of entries."""
    values, rows, offsets = part.values.contiguous(), part.rows.contiguous(), part.offsets
    source, n_entries = part.source.contiguous(), len(part.values)
    if n_entries <= _SPLIT:  # no list can be longer
        return _Term(values, rows, offsets, source, source)
    d, n_latents = source.shape[1], len(offsets) - 1
    partial = torch.empty(
        2 * triton.cdiv(n_entries, _SPLIT), d, dtype=torch.float32, device=source.device
    )
    width = column_block(d)
    split_sums_fwd_kernel[(len(partial), triton.cdiv(d, width))](
        *(values, rows, offsets, source, partial, n_latents, n_entries),
        D=d,
        SPLIT=_SPLIT,
        BLOCK_K=16,
        BLOCK_D=width,
        **COMPILE_OPTIONS,
    )
    return _Term(values, rows, offsets, source, partial)


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
    partial_ptr,
    n_latents,
    n_entries,
    D: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write what the long list at the start (slot 0) or end (slot 1) of a stretch has in it."""
    stretch = (tl.program_id(0) // 2).to(tl.int64)
    slot = tl.program_id(0) % 2
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    start = stretch * SPLIT
    stop = tl.minimum(start + SPLIT, n_entries)
    wanted = tl.where(slot == 0, start, stop - 1)
    # The latent whose list holds that entry: the last whose offset does not go beyond it.
    latent = wanted * 0
    beyond = latent + n_latents
    while beyond - latent > 1:
        middle = (latent + beyond) // 2
        reached = tl.load(offsets_ptr + middle).to(tl.int64) <= wanted
        latent = tl.where(reached, middle, latent)
        beyond = tl.where(reached, beyond, middle)
    first = tl.load(offsets_ptr + latent).to(tl.int64)
    end = tl.load(offsets_ptr + latent + 1).to(tl.int64)
    is_long = end - first > SPLIT
    place = tl.maximum(start, first)
    stop = tl.where(is_long, tl.minimum(stop, end), place)
    total = sum_list(values_ptr, rows_ptr, source_ptr, place, stop, columns, D, BLOCK_K, BLOCK_D)
    at = partial_ptr + tl.program_id(0).to(tl.int64) * D + columns
    tl.store(at, total, mask=columns < tl.where(is_long, D, 0))


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def sum_term(  # type: ignore[no-untyped-def]
    values_ptr,
    rows_ptr,
    offsets_ptr,
    source_ptr,
    partial_ptr,
    latent,
    columns,
    SPLIT: tl.constexpr,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Return the gradient row of a latent: its list summed, or the stretches of its list."""
    place = tl.load(offsets_ptr + latent).to(tl.int64)
    end = tl.load(offsets_ptr + latent + 1).to(tl.int64)
    is_long = end - place > SPLIT
    stop = tl.where(is_long, place, end)
    total = sum_list(values_ptr, rows_ptr, source_ptr, place, stop, columns, D, BLOCK_K, BLOCK_D)
    stretch = place // SPLIT
    last = tl.where(is_long, (end - 1) // SPLIT, stretch - 1)
    while stretch <= last:
        slot = (place > stretch * SPLIT).to(tl.int64)  # it begins inside, so it is the last there
        at = partial_ptr + (2 * stretch + slot) * D + columns
        total += tl.load(at, mask=columns < D, other=0.0).to(tl.float32)
        stretch += 1
    return total


@triton.jit
def held(W_ptr, m_ptr, v_ptr, at, exists):  # type: ignore[no-untyped-def]
    """Return weights and moments in float32."""
    row = tl.load(W_ptr + at, mask=exists, other=0.0).to(tl.float32)
    m = tl.load(m_ptr + at, mask=exists, other=0.0).to(tl.float32)
    v = tl.load(v_ptr + at, mask=exists, other=0.0).to(tl.float32)
    return row, m, v


@triton.jit
def moved(  # type: ignore[no-untyped-def]
    row, m, v, grad, step_size, keep_m, take_m, keep_v, take_v, correction, eps
):
    """Return weights and moments after a step along the gradient."""
    m = keep_m * m + take_m * grad
    v = keep_v * v + take_v * grad * grad
    return row - step_size * m / (tl.sqrt(v * correction) + eps), m, v


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def adam_whole_fwd_kernel(  # type: ignore[no-untyped-def]
    W_ptr,
    m_ptr,
    v_ptr,
    shadow_ptr,
    whole_ptr,
    n_elements,
    step_size,
    keep_m,
    take_m,
    keep_v,
    take_v,
    correction,
    eps,
    scale,
    HAS_SHADOW: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Step along a gradient that is written out, element by element."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = at < n_elements
    row, m, v = held(W_ptr, m_ptr, v_ptr, at, exists)
    grad = scale * tl.load(whole_ptr + at, mask=exists, other=0.0).to(tl.float32)
    row, m, v = moved(row, m, v, grad, step_size, keep_m, take_m, keep_v, take_v, correction, eps)
    tl.store(m_ptr + at, m.to(m_ptr.dtype.element_ty), mask=exists)
    tl.store(v_ptr + at, v.to(v_ptr.dtype.element_ty), mask=exists)
    tl.store(W_ptr + at, row.to(W_ptr.dtype.element_ty), mask=exists)
    if HAS_SHADOW:
        tl.store(shadow_ptr + at, row.to(shadow_ptr.dtype.element_ty), mask=exists)


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
    partial_a,
    values_b,
    rows_b,
    offsets_b,
    source_b,
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
    SPLIT: tl.constexpr,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Sum one latent's gradient, project it, step, renormalise, and write what the latent keeps."""
    latent = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_D)
    in_row = columns < D
    at = latent * D + columns
    if BLOCK_D <= 4096:  # asked for before the lists are walked, so that they arrive meanwhile
        row, m, v = held(W_ptr, m_ptr, v_ptr, at, in_row)
    grad = tl.zeros((BLOCK_D,), dtype=tl.float32)
    if N_TERMS >= 1:
        grad += sum_term(
            values_a,
            rows_a,
            offsets_a,
            source_a,
            partial_a,
            latent,
            columns,
            SPLIT,
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
            partial_b,
            latent,
            columns,
            SPLIT,
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
    if BLOCK_D > 4096:  # more than the registers hold beside a sum
        row, m, v = held(W_ptr, m_ptr, v_ptr, at, in_row)
    grad *= scale
    if UNIT_ROWS:
        grad -= tl.sum(grad * row, axis=0) * row
    row, m, v = moved(row, m, v, grad, step_size, keep_m, take_m, keep_v, take_v, correction, eps)
    tl.store(m_ptr + at, m.to(m_ptr.dtype.element_ty), mask=in_row)
    tl.store(v_ptr + at, v.to(v_ptr.dtype.element_ty), mask=in_row)
    if UNIT_ROWS:
        row = tl.where(in_row, row, 0.0)
        row /= tl.maximum(tl.sqrt(tl.sum(row * row, axis=0)), 1e-12)
    tl.store(W_ptr + at, row.to(W_ptr.dtype.element_ty), mask=in_row)
    if HAS_SHADOW:
        tl.store(shadow_ptr + at, row.to(shadow_ptr.dtype.element_ty), mask=in_row)
