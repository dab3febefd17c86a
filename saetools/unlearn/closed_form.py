"""Editing a linear map in closed form: new values for some inputs, as before for all others.

With rows as inputs, y = x W, W (d_hidden, d_out), C = Σ x xᵀ over inputs to keep (a covariance or a
sum, plus a ridge), keys K (m, d_hidden) and what they should give, V (m, d_out):

    soft (UCE):        W' = W + (C + KᵀK)⁻¹ Kᵀ (V - KW)           minimises ‖KW' - V‖² + ‖W' - W‖²_C
    exact (ROME):      W' = W + C⁻¹Kᵀ (K C⁻¹ Kᵀ)⁻¹ (V - KW)        least ‖W' - W‖²_C with KW' = V

The soft form is Unified Concept Editing's; the exact one of a single key is ROME's rank-one edit,
and of several MEMIT's without its weights. Both are computed in float64.
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["exact_edit", "keep_matrix", "soft_edit"]


def keep_matrix(
    x: Float[Tensor, "n d_hidden"], *, ridge: float
) -> Float[Tensor, "d_hidden d_hidden"]:
    """E[x xᵀ] + ridge · (mean of its diagonal) · I, in float64."""
    x = x.double()
    c = x.T @ x / max(len(x), 1)
    size = c.diagonal().mean()
    eye = torch.eye(len(c), dtype=c.dtype, device=c.device)
    return c + (ridge * size if size > 0 else 1.0) * eye


def soft_edit(
    w: Float[Tensor, "d_hidden d_out"],
    keep: Float[Tensor, "d_hidden d_hidden"],
    keys: Float[Tensor, "m d_hidden"],
    values: Float[Tensor, "m d_out"],
) -> Float[Tensor, "d_hidden d_out"]:
    """The map that trades new values for old ones, weighted by `keep`."""
    w64, k, v = w.double(), keys.double(), values.double()
    change: Tensor = torch.linalg.solve(keep + k.T @ k, k.T @ (v - k @ w64))
    return (w64 + change).to(w.dtype)


def exact_edit(
    w: Float[Tensor, "d_hidden d_out"],
    keep: Float[Tensor, "d_hidden d_hidden"],
    keys: Float[Tensor, "m d_hidden"],
    values: Float[Tensor, "m d_out"],
) -> Float[Tensor, "d_hidden d_out"]:
    """The map that gives every key its value and moves least elsewhere; keys that depend on each
    other are met in the least-squares sense."""
    w64, k, v = w.double(), keys.double(), values.double()
    spread: Tensor = torch.linalg.solve(keep, k.T)  # (d_hidden, m)
    inverse: Tensor = torch.linalg.pinv(k @ spread)
    return (w64 + spread @ inverse @ (v - k @ w64)).to(w.dtype)
