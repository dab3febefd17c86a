"""Scatter rows on the torch path: with entries sorted by latent, a CSR matrix times x."""

from torch import Tensor

from saetools_kernels._bags import bag_sum

__all__ = ["scatter_ordered"]


def scatter_ordered(
    values: Tensor,
    rows: Tensor,
    permutation: Tensor,
    offsets: Tensor,
    x: Tensor,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Return one weighted sum of rows of x a latent, shape (n_latents, d)."""
    return bag_sum(values[permutation], rows[permutation], offsets, x, out=out)
