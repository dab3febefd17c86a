"""Top-k in Triton: maxima of groups in one pass over x, then only the k groups that can matter.

Cut a row into groups of consecutive columns. The k groups with the largest maxima, the lower group
among equals, hold the k largest elements, the lower index among equals: every other element is
outranked by the maxima of k groups. Maxima of maxima make the same true of longer rows, so the
search goes down level by level and reads k groups on each.

Floats are compared as integers of the same order (NaN above all, both zeros the same), so that a
comparison is exact whatever the compiler does. The k-th largest is found bit by bit, by counting;
a running count then writes the chosen ones in ascending order of their index. No sort, no atomics.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from saetools_kernels._launch import COMPILE_OPTIONS, on_device_of

__all__ = [
    "KEY_BITS",
    "float_key",
    "group_max_fwd_kernel",
    "group_maxima",
    "group_size",
    "kth_largest",
    "merge",
    "select_fwd_kernel",
    "select_warps",
    "topk_rows",
]

# What is left of a float32's bits where a narrower float leaves the low ones empty.
KEY_BITS = {torch.float32: 32, torch.float16: 19, torch.bfloat16: 16}
_CANDIDATES = 4096  # that one program can rank in its registers
_MAXIMA = 128  # groups whose maxima one program takes


def topk_rows(
    x: Tensor, k: int, *, out: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return the k largest of every row and their indices, in ascending order of index."""
    x = x if x.stride(1) == 1 or x.shape[1] <= 1 else x.contiguous()
    if out is None:
        out = x.new_empty(len(x), k), torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    values, indices = out
    if values.numel() == 0:
        return values, indices
    size = group_size(k)
    levels = [x]  # x, the maxima of its groups, the maxima of theirs, ...
    while levels[-1].shape[1] > _CANDIDATES:
        levels.append(group_maxima(levels[-1], size, dtype=x.dtype))
    groups: Tensor | None = None
    for level in reversed(levels[1:]):
        chosen = torch.empty(len(x), k, dtype=torch.int32, device=x.device)
        _select(level, groups, k, dtype=x.dtype, indices=chosen)
        groups = chosen
    _select(x, groups, k, dtype=x.dtype, indices=indices, values=values)
    return values, indices


def merge(values: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of candidates that stand in ascending order of their index."""
    out = values.new_empty(len(values), k)
    where = torch.empty(len(values), k, dtype=torch.int64, device=values.device)
    if out.numel():
        _select(values.contiguous(), None, k, dtype=values.dtype, indices=where, values=out)
    return out, indices.gather(1, where)


def group_size(k: int) -> int:
    """Return how many columns make a group, so that k groups are not too many candidates."""
    return max(8, min(32, _CANDIDATES >> (max(1, k) - 1).bit_length()))


def group_maxima(x: Tensor, size: int, *, dtype: torch.dtype) -> Tensor:
    """Return the integer key of the largest element of each group of columns, int32.

    Args:
        x: floats or keys, unit stride along a row, shape (n, n_columns).
        size: columns a group.
        dtype: of the floats; keys are as wide as it needs.
    """
    n, n_columns = x.shape
    n_groups = triton.cdiv(n_columns, size)
    maxima = torch.empty(n, n_groups, dtype=torch.int32, device=x.device)
    block = min(_MAXIMA, triton.next_power_of_2(n_groups))
    with on_device_of(x):
        group_max_fwd_kernel[(n, triton.cdiv(n_groups, block))](
            x,
            maxima,
            x.stride(0),
            n_columns,
            n_groups,
            IS_KEY=x.dtype == torch.int32,
            N_BITS=KEY_BITS[dtype],
            GROUP_SIZE=size,
            BLOCK=block,
            **COMPILE_OPTIONS,
        )
    return maxima


def _select(
    x: Tensor,
    groups: Tensor | None,
    k: int,
    *,
    dtype: torch.dtype,
    indices: Tensor,
    values: Tensor | None = None,
) -> None:
    """Write the k best columns of every row of x, looked for in all of them or in k groups."""
    n, n_columns = x.shape
    size = group_size(k)
    block = max(16, triton.next_power_of_2(n_columns if groups is None else k * size))
    options = {**COMPILE_OPTIONS, "num_warps": select_warps(block)}
    with on_device_of(x):
        select_fwd_kernel[(n,)](
            x,
            indices if groups is None else groups,
            indices if values is None else values,
            indices,
            x.stride(0),
            n_columns,
            k,
            IS_KEY=x.dtype == torch.int32,
            IN_GROUPS=groups is not None,
            WITH_VALUES=values is not None,
            N_BITS=KEY_BITS[dtype],
            GROUP_SIZE=size,
            BLOCK=block,
            **options,
        )


def select_warps(block: int) -> int:
    """Return how many warps hold a block of keys in registers."""
    return min(16, max(2, block // 512))


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def float_key(x, N_BITS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return integers of N_BITS in the order of the floats; no float has the lowest of them."""
    x = x.to(tl.float32)
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True)
    key = tl.where(x == x, bits ^ ((bits >> 31) & 0x7FFFFFFF), 0x7FFFFFFF)
    return key >> (32 - N_BITS)


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def kth_largest(key, k, N_BITS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the largest integer that at least k of the keys reach, found from the top bit down."""
    n_positive = tl.sum((key >= 0).to(tl.int32), axis=0)
    kth = tl.where(n_positive >= k, 0, -(1 << (N_BITS - 1)))
    for i in range(N_BITS - 1):
        trial = kth + (1 << (N_BITS - 2 - i))
        kth = tl.where(tl.sum((key >= trial).to(tl.int32), axis=0) >= k, trial, kth)
    return kth


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def group_max_fwd_kernel(  # type: ignore[no-untyped-def]
    x_ptr,
    maxima_ptr,
    row_stride,
    n_columns,
    n_groups,
    IS_KEY: tl.constexpr,
    N_BITS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the key of the largest element of each group of consecutive columns."""
    row = tl.program_id(0).to(tl.int64)
    groups = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    columns = groups[:, None] * GROUP_SIZE + tl.arange(0, GROUP_SIZE)[None, :]
    exists = columns < n_columns
    x = tl.load(x_ptr + row * row_stride + columns, mask=exists, other=0)
    key = x if IS_KEY else float_key(x, N_BITS)
    key = tl.where(exists, key, -(1 << (N_BITS - 1)))
    tl.store(maxima_ptr + row * n_groups + groups, tl.max(key, axis=1), mask=groups < n_groups)


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def select_fwd_kernel(  # type: ignore[no-untyped-def]
    x_ptr,
    groups_ptr,
    values_ptr,
    indices_ptr,
    row_stride,
    n_columns,
    k,
    IS_KEY: tl.constexpr,
    IN_GROUPS: tl.constexpr,
    WITH_VALUES: tl.constexpr,
    N_BITS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the k largest candidates of one row and their columns, in ascending order."""
    row = tl.program_id(0).to(tl.int64)
    slots = tl.arange(0, BLOCK)
    columns = slots
    exists = slots < n_columns
    if IN_GROUPS:
        listed = slots // GROUP_SIZE < k
        group = tl.load(groups_ptr + row * k + slots // GROUP_SIZE, mask=listed, other=0)
        columns = group * GROUP_SIZE + slots % GROUP_SIZE
        exists = listed & (columns < n_columns)
    x = tl.load(x_ptr + row * row_stride + columns, mask=exists, other=0)
    key = x if IS_KEY else float_key(x, N_BITS)
    key = tl.where(exists, key, -(1 << (N_BITS - 1)))
    kth = kth_largest(key, k, N_BITS)
    above = (key > kth).to(tl.int32)
    equal = (key == kth).to(tl.int32)
    # Two counts in one scan: those above in the low half, those equal in the high half.
    counts = tl.cumsum(above + (equal << 16), axis=0)
    n_above, n_equal = counts & 0xFFFF, counts >> 16
    missing = k - tl.sum(above, axis=0)
    chosen = (above + equal * (n_equal <= missing).to(tl.int32)) > 0
    place = row * k + n_above + tl.minimum(n_equal, missing) - 1
    tl.store(indices_ptr + place, columns, mask=chosen)
    if WITH_VALUES:
        tl.store(values_ptr + place, x, mask=chosen)
