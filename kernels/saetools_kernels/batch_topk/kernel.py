"""The largest of a batch in Triton: maxima of groups, the threshold digit by digit, then a list.

The k·n groups with the largest maxima hold the k·n largest elements, so the k·n-th largest maximum
is a floor under the threshold; groups below the floor are not read again. A threshold is found by
counting digits of integer keys from the top down, 8 bits at a time; only whole counts are added, in
any order, so the result is exact and the same in every run. Which ties pass is settled by running
counts in order of row and column. Nothing waits for the device: the size of the result is known.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from saetools_kernels._launch import COMPILE_OPTIONS, on_device_of
from saetools_kernels.threshold_rows.kernel import running_starts
from saetools_kernels.topk_rows.kernel import KEY_BITS, float_key, group_maxima

__all__ = [
    "batch_topk",
    "count_digits_fwd_kernel",
    "count_largest_fwd_kernel",
    "fill_largest_fwd_kernel",
]

_GROUP = 32
_BLOCK = 2048


def batch_topk(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return values, rows, latents and bounds of the k·n largest elements."""
    x = x if x.stride(1) == 1 else x.contiguous()
    n, n_columns = x.shape
    n_wanted = k * n
    values = x.new_empty(n_wanted)
    rows = torch.empty(n_wanted, dtype=torch.int64, device=x.device)
    latents = torch.empty_like(rows)
    if n_wanted == 0:
        return values, rows, latents, torch.zeros(n + 1, dtype=torch.int64, device=x.device)
    maxima = group_maxima(x, _GROUP, dtype=x.dtype)
    floor = torch.full((1,), -(1 << (KEY_BITS[x.dtype] - 1)), dtype=torch.int64, device=x.device)
    if n_wanted <= maxima.numel():
        floor = _kth_key(maxima, maxima, floor, n_wanted, dtype=x.dtype)
    threshold = _kth_key(x, maxima, floor, n_wanted, dtype=x.dtype)
    grid = (n, triton.cdiv(n_columns, _BLOCK))
    counts = torch.empty(2, *grid, dtype=torch.int32, device=x.device)
    shared = (x, maxima, threshold)
    sizes = (x.stride(0), n_columns, maxima.shape[1])
    constants = {"N_BITS": KEY_BITS[x.dtype], "GROUP_SIZE": _GROUP, "BLOCK": _BLOCK}
    with on_device_of(x):
        count_largest_fwd_kernel[grid](
            *shared, counts[0], counts[1], *sizes, **constants, **COMPILE_OPTIONS
        )
        above, equal = running_starts(counts[0]), running_starts(counts[1])
        missing = n_wanted - above[-1:]  # ties that pass
        fill_largest_fwd_kernel[grid](
            *(*shared, above, equal, missing, values, rows, latents, *sizes),
            **constants,
            **COMPILE_OPTIONS,
        )
    return values, rows, latents, (above + torch.minimum(equal, missing))[:: grid[1]].contiguous()


def _kth_key(x: Tensor, maxima: Tensor, floor: Tensor, k: int, *, dtype: torch.dtype) -> Tensor:
    """Return the k-th largest key of x, at least `floor`, as a tensor of one int64."""
    n, n_columns = x.shape
    n_bits = KEY_BITS[dtype]
    lowest = -(1 << (n_bits - 1))
    found = torch.zeros_like(floor)  # distance from the lowest key, its digits so far
    wanted = torch.full_like(floor, k)
    counts = torch.empty(n, 256, dtype=torch.int32, device=x.device)
    for shift in range((n_bits - 1) // 8 * 8, -1, -8):
        with on_device_of(x):
            count_digits_fwd_kernel[(n,)](
                *(x, maxima, floor, found, counts, x.stride(0), n_columns, maxima.shape[1], shift),
                IS_KEY=x.dtype == torch.int32,
                N_BITS=n_bits,
                GROUP_SIZE=1 if x is maxima else _GROUP,
                BLOCK=max(16, min(_BLOCK, triton.next_power_of_2(n_columns))),
                **COMPILE_OPTIONS,
            )
        # How many keys have this digit or a higher one, and the highest digit that reaches k.
        reach = torch.zeros(257, dtype=torch.int64, device=x.device)
        reach[:256] = counts.sum(0).flip(0).cumsum(0).flip(0)
        digit = (reach >= wanted).sum().sub(1).view(1)
        wanted = wanted - reach.index_select(0, digit + 1)
        found = found + (digit << shift)
    return found + lowest


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def load_keys(  # type: ignore[no-untyped-def]
    x_ptr,
    maxima_ptr,
    floor,
    row,
    columns,
    row_stride,
    n_columns,
    n_groups,
    N_BITS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
):
    """Return elements of a row and which of them are in groups that reach the floor."""
    exists = columns < n_columns
    maximum = tl.load(
        maxima_ptr + row * n_groups + columns // GROUP_SIZE,
        mask=exists,
        other=-(1 << (N_BITS - 1)),
    )
    live = exists & (maximum >= floor)
    return tl.load(x_ptr + row * row_stride + columns, mask=live, other=0), live


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def count_digits_fwd_kernel(  # type: ignore[no-untyped-def]
    x_ptr,
    maxima_ptr,
    floor_ptr,
    found_ptr,
    counts_ptr,
    row_stride,
    n_columns,
    n_groups,
    shift,
    IS_KEY: tl.constexpr,
    N_BITS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Count, in one row, the digit at `shift` of the keys whose higher digits are those found."""
    row = tl.program_id(0).to(tl.int64)
    floor = tl.load(floor_ptr)
    found = tl.load(found_ptr)
    totals = tl.zeros((512,), dtype=tl.int32)
    start = 0
    while start < n_columns:
        columns = start + tl.arange(0, BLOCK)
        x, live = load_keys(
            x_ptr,
            maxima_ptr,
            floor,
            row,
            columns,
            row_stride,
            n_columns,
            n_groups,
            N_BITS,
            GROUP_SIZE,
        )
        key = x if IS_KEY else float_key(x, N_BITS)
        distance = key.to(tl.int64) + (1 << (N_BITS - 1))
        same = live & ((distance >> (shift + 8)) == (found >> (shift + 8)))
        # What is not counted falls into a bin that is not written.
        digit = tl.where(same, (distance >> shift) & 255, 256).to(tl.int32)
        totals += tl.histogram(digit, 512)
        start += BLOCK
    digits = tl.arange(0, 512)
    tl.store(counts_ptr + row * 256 + digits, totals, mask=digits < 256)


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def count_largest_fwd_kernel(  # type: ignore[no-untyped-def]
    x_ptr,
    maxima_ptr,
    threshold_ptr,
    n_above_ptr,
    n_equal_ptr,
    row_stride,
    n_columns,
    n_groups,
    N_BITS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write how many keys of a block lie above the threshold, and how many on it."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    threshold = tl.load(threshold_ptr)
    x, live = load_keys(
        x_ptr,
        maxima_ptr,
        threshold,
        row,
        columns,
        row_stride,
        n_columns,
        n_groups,
        N_BITS,
        GROUP_SIZE,
    )
    key = float_key(x, N_BITS)
    at = row * tl.num_programs(1) + tl.program_id(1)
    tl.store(n_above_ptr + at, tl.sum((live & (key > threshold)).to(tl.int32), axis=0))
    tl.store(n_equal_ptr + at, tl.sum((live & (key == threshold)).to(tl.int32), axis=0))


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def fill_largest_fwd_kernel(  # type: ignore[no-untyped-def]
    x_ptr,
    maxima_ptr,
    threshold_ptr,
    above_ptr,
    equal_ptr,
    missing_ptr,
    values_ptr,
    rows_ptr,
    latents_ptr,
    row_stride,
    n_columns,
    n_groups,
    N_BITS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the elements of a block above the threshold, and of those on it the first missing."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    threshold = tl.load(threshold_ptr)
    missing = tl.load(missing_ptr)
    x, live = load_keys(
        x_ptr,
        maxima_ptr,
        threshold,
        row,
        columns,
        row_stride,
        n_columns,
        n_groups,
        N_BITS,
        GROUP_SIZE,
    )
    key = float_key(x, N_BITS)
    above = (live & (key > threshold)).to(tl.int32)
    equal = (live & (key == threshold)).to(tl.int32)
    at = row * tl.num_programs(1) + tl.program_id(1)
    counts = tl.cumsum(above + (equal << 16), axis=0)  # two counts in one scan
    n_above = tl.load(above_ptr + at) + (counts & 0xFFFF)
    n_equal = tl.load(equal_ptr + at) + (counts >> 16)
    chosen = (above + equal * (n_equal <= missing).to(tl.int32)) > 0
    place = n_above + tl.minimum(n_equal, missing) - 1
    tl.store(values_ptr + place, x, mask=chosen)
    tl.store(rows_ptr + place, tl.zeros_like(columns).to(tl.int64) + row, mask=chosen)
    tl.store(latents_ptr + place, columns.to(tl.int64), mask=chosen)
