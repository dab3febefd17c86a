"""The largest of a batch on the torch path: candidates above a guess, then exactly among them.

A sample tells about where the k·n-th largest lies. Everything from a little below there on is a
candidate; were there too few of them, the guess goes down. The guess changes the time, never the
result.
"""

import torch
from torch import Tensor

from saetools_kernels.threshold_rows.cpu import bounds_of

__all__ = ["batch_topk"]

_SAMPLE = 2**16


def batch_topk(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return values, rows, latents and bounds of the k·n largest elements."""
    n, n_columns = x.shape
    flat = x.reshape(-1)
    chosen = _largest(flat, k * n)
    rows = chosen.div(max(1, n_columns), rounding_mode="floor")
    return flat[chosen], rows, chosen - rows * n_columns, bounds_of(rows, n)


def _largest(flat: Tensor, n_wanted: int) -> Tensor:
    """Return the positions of the largest, the first among equals, in ascending order."""
    if n_wanted in (0, len(flat)):
        return torch.arange(n_wanted, device=flat.device)
    candidates = _candidates(flat, n_wanted)
    values = flat[candidates]
    cut = values.kthvalue(len(values) - n_wanted + 1).values
    nan = values.isnan()  # above any number
    equal, keep = values == cut, (values > cut) | nan
    if bool(cut.isnan()):
        equal, keep = nan, torch.zeros_like(nan)
    ties = equal.nonzero().squeeze(1)
    keep[ties[: n_wanted - int(keep.sum())]] = True
    return candidates[keep]


def _candidates(flat: Tensor, n_wanted: int) -> Tensor:
    """Return the positions of at least `n_wanted` elements that no other element exceeds."""
    sample = flat[:: max(1, len(flat) // _SAMPLE) | 1]
    rank = n_wanted / len(flat) * len(sample)
    rank += 4 * rank**0.5 + 8  # four standard deviations: once is nearly always enough
    while rank < len(sample):
        floor = sample.kthvalue(len(sample) - int(rank)).values
        found = (~(flat < floor)).nonzero().squeeze(1)
        if len(found) >= n_wanted:
            return found
        rank *= 2
    return torch.arange(len(flat), device=flat.device)
