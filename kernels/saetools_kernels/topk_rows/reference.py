"""Top-k by a stable sort of every row: among equal elements the lowest index comes first."""

import torch
from torch import Tensor

__all__ = ["topk_rows"]


def topk_rows(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest elements of every row and their indices, in ascending order of index."""
    indices = torch.sort(x, dim=1, descending=True, stable=True).indices[:, :k].sort(dim=1).values
    return x.gather(1, indices), indices
