"""Top-k on the torch path: by groups where rows are long, else `torch.topk`.

Cut a row into `width` slices of equal length and call the elements that share a position one group.
The k groups with the largest maxima hold the k largest elements: an element outside them is no
larger than k others. So the maxima are taken (a fast, strided reduction), top-k runs on them, by
the same trick again, and once more on the elements of the k groups that it found. `torch.topk`
copies every element into pairs first, and here it sees only a fraction of them.

Ties: one element more than asked for is selected. Where it equals the last one kept, and only
there, the row is read again to keep the lowest indices.
"""

import torch
from torch import Tensor

__all__ = ["merge", "topk_rows"]

_ROWS_AT_ONCE = 512  # temporaries stay in the allocator's heap: no page faults
_WIDTHS = (8, 4, 4)  # slices at each level; measured best of eight choices on three shapes
_MIN_GROUPS = 4  # times k; with fewer groups the search costs more than it saves


def topk_rows(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest elements of every row and their indices, in ascending order of index."""
    widths = _levels(x.shape[1], k) if x.device.type == "cpu" else ()
    if not widths or len(x) == 0:
        return _by_index(*_exact(x, k, ()))
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64)
    for start in range(0, len(x), _ROWS_AT_ONCE):
        piece = slice(start, start + _ROWS_AT_ONCE)
        values[piece], indices[piece] = _by_index(*_exact(x[piece].contiguous(), k, widths))
    return values, indices


def merge(values: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of candidates whose indices stand beside them, in any order."""
    found, where = _plain(values, min(k + 1, values.shape[1]), largest_first=True)
    tied = _tied_rows(found, k)
    found, where = found[:, :k].contiguous(), where[:, :k].contiguous()
    if len(tied):
        order = indices[tied].argsort(1)
        slots, (row, rank) = _settled(values[tied].gather(1, order), found[tied])
        where[tied] = where[tied].masked_scatter(slots, order[row, rank])
        found = values.gather(1, where)
    return _by_index(found, indices.gather(1, where))


def _by_index(values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    indices, order = indices.sort(dim=1)
    return values.gather(1, order), indices


def _exact(x: Tensor, k: int, widths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Select k + 1, see where the last two are equal, and settle those rows."""
    if k in (0, x.shape[1]):
        return _plain(x, k)
    values, indices = _grouped(x, k + 1, widths, largest_first=True)
    tied = _tied_rows(values, k)
    values, indices = values[:, :k], indices[:, :k]
    if len(tied):
        slots, (_, column) = _settled(x[tied], values[tied])
        indices[tied] = indices[tied].masked_scatter(slots, column)
        values = x.gather(1, indices)  # 0 and -0 are equal and not the same
    return values.contiguous(), indices.contiguous()


def _tied_rows(values: Tensor, k: int) -> Tensor:
    """Return the rows whose first value left out equals the last one kept."""
    if k == 0 or values.shape[1] <= k:
        return torch.empty(0, dtype=torch.int64, device=values.device)
    last, out = values[:, k - 1], values[:, k]
    return ((last == out) | out.isnan()).nonzero().squeeze(1)


def _settled(x: Tensor, kept: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Choose the lowest columns among those that equal the last value kept.

    Args:
        x: rows of candidates.
        kept: their k largest, in descending order.

    Returns:
        Which of the k slots hold that value, bool, and for each of them in turn row and column.
    """
    kth = kept[:, -1:]
    tie_of_nan = kth.isnan()
    equal = torch.where(tie_of_nan, x.isnan(), x == kth) if bool(tie_of_nan.any()) else x == kth
    slots = (kept == kth) | tie_of_nan
    rows, columns = equal.nonzero().unbind(1)  # by row, then by column
    first = torch.searchsorted(rows, torch.arange(len(x), device=x.device))
    rank = torch.arange(len(rows), device=x.device) - first[rows]
    chosen = rank < slots.sum(1)[rows]
    return slots, (rows[chosen], columns[chosen])


def _levels(n_columns: int, k: int) -> tuple[int, ...]:
    """Return the slice counts of the levels that pay for rows of this length."""
    levels: tuple[int, ...] = ()
    for width in _WIDTHS:
        n_columns //= width
        if k == 0 or n_columns < _MIN_GROUPS * k:
            break
        levels += (width,)
    return levels


def _grouped(
    x: Tensor, k: int, widths: tuple[int, ...], *, largest_first: bool = False
) -> tuple[Tensor, Tensor]:
    if not widths:
        return _plain(x, k, largest_first=largest_first)
    n, n_columns = x.shape
    width = widths[0]
    n_groups = n_columns // width
    tail = torch.arange(width * n_groups, n_columns)  # columns that no group holds
    maxima = x[:, : width * n_groups].view(n, width, n_groups).amax(1)  # (n, n_groups)
    groups = _grouped(maxima, k, widths[1:])[1]  # (n, k)
    starts = torch.arange(0, width * n_groups, n_groups).view(1, width, 1)
    members = (groups.unsqueeze(1) + starts).view(n, width * k)
    candidates = torch.cat([members, tail.expand(n, -1)], dim=1) if len(tail) else members
    values, chosen = _plain(x.gather(1, candidates), k, largest_first=largest_first)
    return values, candidates.gather(1, chosen)


def _plain(x: Tensor, k: int, *, largest_first: bool = False) -> tuple[Tensor, Tensor]:
    top = torch.topk(x, k, dim=1, sorted=largest_first)
    return top.values, top.indices
