"""The largest of a batch by a stable sort of everything: among equals the first comes first."""

import torch
from torch import Tensor

__all__ = ["batch_topk"]


def batch_topk(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return values, rows, latents and bounds of the k·n largest elements."""
    n, n_columns = x.shape
    order = torch.sort(x.flatten(), descending=True, stable=True).indices
    chosen = order[: k * n].sort().values
    rows, latents = chosen // max(1, n_columns), chosen % max(1, n_columns)
    counts = torch.bincount(rows, minlength=n)
    return x[rows, latents], rows, latents, torch.cat([counts.new_zeros(1), counts.cumsum(0)])
