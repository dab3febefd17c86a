"""Scatter rows as the definition reads: make every weighted row, add each to its latent."""

from torch import Tensor

__all__ = ["row_scatter_add"]


def row_scatter_add(
    values: Tensor, rows: Tensor, latents: Tensor, x: Tensor, n_latents: int
) -> Tensor:
    """Return out[f] = Σ_{j: latents[j] = f} values[j] · x[rows[j]], shape (n_latents, d)."""
    weighted = (values.unsqueeze(-1) * x[rows]).to(x.dtype)  # (nnz, d)
    return x.new_zeros(n_latents, x.shape[1]).index_add(0, latents, weighted)
