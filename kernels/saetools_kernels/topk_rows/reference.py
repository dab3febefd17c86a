"""Top-k by a stable sort of every row: among equal elements the lowest index comes first."""

import torch
from torch import Tensor

__all__ = ["topk_rows"]


def topk_rows(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest elements of every row and their indices, in descending order."""
    values, indices = torch.sort(x, dim=1, descending=True, stable=True)
    return values[:, :k].contiguous(), indices[:, :k].contiguous()
