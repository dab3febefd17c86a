"""Elements above their column's threshold on the torch path: a few rows at a time.

A piece is compared while it is in the cache, and its hits are listed as positions in the piece.
"""

import torch
from torch import Tensor

__all__ = ["bounds_of", "threshold_rows"]

_PIECE_BYTES = 8 * 2**20


def threshold_rows(x: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return values, rows, latents and bounds of all x[i, f] > thresholds[f]."""
    n, n_columns = x.shape
    size = max(1, _PIECE_BYTES // max(1, n_columns * x.element_size()))
    parts = []
    for start in range(0, n, size):
        piece = x[start : start + size]
        hits = (piece > thresholds).flatten().nonzero().squeeze(1)
        rows = hits.div(max(1, n_columns), rounding_mode="floor")
        latents = hits - rows * n_columns
        parts.append((piece[rows, latents], rows + start, latents))
    if not parts:
        nothing = torch.empty(0, dtype=torch.int64, device=x.device)
        parts = [(x.new_empty(0), nothing, nothing)]
    values, rows, latents = (torch.cat(column) for column in zip(*parts, strict=True))
    return values, rows, latents, bounds_of(rows, n)


def bounds_of(rows: Tensor, n: int) -> Tensor:
    """Return where each of n rows begins in a list in ascending order of rows, then its length."""
    return torch.searchsorted(rows, torch.arange(n + 1, device=rows.device))
