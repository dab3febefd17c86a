"""Elements above their column's threshold in Triton: count by blocks, then fill.

One program takes one block of one row. Running sums of the counts, in order of row and block, tell
each program of the second kernel where to write, so the order is fixed and nothing is atomic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from saetools_kernels._launch import COMPILE_OPTIONS, on_device_of

__all__ = ["count_above_fwd_kernel", "fill_above_fwd_kernel", "running_starts", "threshold_rows"]

_BLOCK = 2048


def threshold_rows(x: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return values, rows, latents and bounds of all x[i, f] > thresholds[f]."""
    x = x if x.stride(1) == 1 else x.contiguous()
    thresholds = thresholds.contiguous()
    n, n_columns = x.shape
    block = max(16, min(_BLOCK, triton.next_power_of_2(n_columns)))
    grid = (n, triton.cdiv(n_columns, block))
    counts = torch.empty(grid, dtype=torch.int32, device=x.device)
    with on_device_of(x):
        if counts.numel():
            count_above_fwd_kernel[grid](
                x, thresholds, counts, x.stride(0), n_columns, BLOCK=block, **COMPILE_OPTIONS
            )
        starts = running_starts(counts)
        bounds = starts[:: max(1, grid[1])] if grid[1] else starts.new_zeros(n + 1)
        n_entries = int(starts[-1])  # the one wait for the device
        values = x.new_empty(n_entries)
        rows = torch.empty(n_entries, dtype=torch.int64, device=x.device)
        latents = torch.empty_like(rows)
        if n_entries:
            fill_above_fwd_kernel[grid](
                *(x, thresholds, starts, values, rows, latents, x.stride(0), n_columns),
                BLOCK=block,
                **COMPILE_OPTIONS,
            )
    return values, rows, latents, bounds.contiguous()


def running_starts(counts: Tensor) -> Tensor:
    """Return where the entries of each block begin, in row-major order, then their number."""
    starts = torch.zeros(counts.numel() + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts.flatten(), 0, out=starts[1:])
    return starts


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def count_above_fwd_kernel(  # type: ignore[no-untyped-def]
    x_ptr, thresholds_ptr, counts_ptr, row_stride, n_columns, BLOCK: tl.constexpr
):
    """Write how many elements of a block exceed their thresholds."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    exists = columns < n_columns
    x = tl.load(x_ptr + row * row_stride + columns, mask=exists, other=0.0).to(tl.float32)
    threshold = tl.load(thresholds_ptr + columns, mask=exists, other=0.0).to(tl.float32)
    count = tl.sum((exists & (x > threshold)).to(tl.int32), axis=0)
    tl.store(counts_ptr + row * tl.num_programs(1) + tl.program_id(1), count)


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def fill_above_fwd_kernel(  # type: ignore[no-untyped-def]
    x_ptr,
    thresholds_ptr,
    starts_ptr,
    values_ptr,
    rows_ptr,
    latents_ptr,
    row_stride,
    n_columns,
    BLOCK: tl.constexpr,
):
    """Write the elements of a block that exceed their thresholds, in order of column."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    exists = columns < n_columns
    x = tl.load(x_ptr + row * row_stride + columns, mask=exists, other=0.0)
    threshold = tl.load(thresholds_ptr + columns, mask=exists, other=0.0).to(tl.float32)
    above = exists & (x.to(tl.float32) > threshold)
    start = tl.load(starts_ptr + row * tl.num_programs(1) + tl.program_id(1))
    place = start + tl.cumsum(above.to(tl.int32), axis=0) - 1
    tl.store(values_ptr + place, x, mask=above)
    tl.store(rows_ptr + place, tl.zeros_like(columns).to(tl.int64) + row, mask=above)
    tl.store(latents_ptr + place, columns.to(tl.int64), mask=above)
