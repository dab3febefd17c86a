"""Decode as the definition reads: gather the rows, weight them, add them up. Autograd works."""

import torch
from torch import Tensor

__all__ = ["bag_decode", "sparse_decode"]


def sparse_decode(values: Tensor, indices: Tensor, W: Tensor) -> Tensor:
    """Return Σ_j values[i, j] · W[indices[i, j]] for every row i, shape (n, d)."""
    rows = W[indices]  # (n, k, d)
    return (values.unsqueeze(-1) * rows).sum(1).to(W.dtype)


def bag_decode(values: Tensor, indices: Tensor, offsets: Tensor, W: Tensor) -> Tensor:
    """Return the weighted sum of each bag, shape (n_bags, d)."""
    sizes = (offsets[1:] - offsets[:-1]).long()
    bag = torch.repeat_interleave(torch.arange(len(sizes), device=W.device), sizes)
    rows = (values.unsqueeze(-1) * W[indices]).to(W.dtype)  # (nnz, d)
    return W.new_zeros(len(sizes), W.shape[1]).index_add(0, bag, rows)
