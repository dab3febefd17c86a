"""Top-k on the torch path: by groups where rows are long, else `torch.topk`.

Cut a row into `width` slices of equal length and call the elements that share a position one group.
The k groups with the largest maxima hold the k largest elements: an element outside them is no
larger than k others. So the maxima are taken (a fast, strided reduction), top-k runs on them, by
the same trick again, and once more on the elements of the k groups that it found. `torch.topk`
copies every element into pairs first, and here it sees only a fraction of them.
"""

import torch
from torch import Tensor

__all__ = ["topk_rows"]

_ROWS_AT_ONCE = 512  # temporaries stay in the allocator's heap: no page faults
_WIDTHS = (8, 4, 4)  # slices at each level; measured best of eight choices on three shapes
_MIN_GROUPS = 4  # times k; with fewer groups the search costs more than it saves


def topk_rows(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest elements of every row and their indices, in no promised order."""
    widths = _levels(x.shape[1], k) if x.device.type == "cpu" else ()
    if not widths or len(x) == 0:
        return _plain(x, k)
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64)
    for start in range(0, len(x), _ROWS_AT_ONCE):
        piece = slice(start, start + _ROWS_AT_ONCE)
        values[piece], indices[piece] = _grouped(x[piece].contiguous(), k, widths)
    return values, indices


def _levels(n_columns: int, k: int) -> tuple[int, ...]:
    """Return the slice counts of the levels that pay for rows of this length."""
    levels: tuple[int, ...] = ()
    for width in _WIDTHS:
        n_columns //= width
        if k == 0 or n_columns < _MIN_GROUPS * k:
            break
        levels += (width,)
    return levels


def _grouped(x: Tensor, k: int, widths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    if not widths:
        return _plain(x, k)
    n, n_columns = x.shape
    width = widths[0]
    n_groups = n_columns // width
    tail = torch.arange(width * n_groups, n_columns)  # columns that no group holds
    maxima = x[:, : width * n_groups].view(n, width, n_groups).amax(1)  # (n, n_groups)
    groups = _grouped(maxima, k, widths[1:])[1]  # (n, k)
    starts = torch.arange(0, width * n_groups, n_groups).view(1, width, 1)
    members = (groups.unsqueeze(1) + starts).view(n, width * k)
    candidates = torch.cat([members, tail.expand(n, -1)], dim=1) if len(tail) else members
    values, chosen = _plain(x.gather(1, candidates), k)
    return values, candidates.gather(1, chosen)


def _plain(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    top = torch.topk(x, k, dim=1, sorted=False)
    return top.values, top.indices
