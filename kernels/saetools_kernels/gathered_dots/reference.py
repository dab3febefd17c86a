"""Gathered dot products as the definition reads: gather both rows, multiply, add up."""

from torch import Tensor

__all__ = ["gathered_dots"]


def gathered_dots(g: Tensor, W: Tensor, rows: Tensor, latents: Tensor) -> Tensor:
    """Return ⟨g[rows[j]], W[latents[j]]⟩ for every entry j, shape (nnz,)."""
    return (g[rows] * W[latents]).sum(-1)
