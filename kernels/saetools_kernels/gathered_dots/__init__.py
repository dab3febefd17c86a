"""Gathered dot products: the gradient of the activations, one number per entry.

    out[j] = ⟨g[rows[j]], W[latents[j]]⟩

With g the gradient of the reconstruction and W the decoder it is the gradient of `values` in a
decode, without the dense product g Wᵀ of which it is a part. Gradients, with G the gradient of
`out`:

    d g[r] = Σ_{j: rows[j] = r}    G[j] · W[latents[j]]     the op row_scatter_add
    d W[f] = Σ_{j: latents[j] = f} G[j] · g[rows[j]]        the op row_scatter_add

The form here has no autograd; `saetools_kernels.gradients` adds it.
"""

import torch
from torch import Tensor

from saetools_kernels._checks import check_floats, check_indices, check_shape
from saetools_kernels._dispatch import choose
from saetools_kernels._errors import KernelInputError
from saetools_kernels._launch import load_kernel
from saetools_kernels.gathered_dots import cpu, reference

__all__ = ["gathered_dots_forward"]


@torch.no_grad()
def gathered_dots_forward(g: Tensor, W: Tensor, rows: Tensor, latents: Tensor) -> Tensor:
    """Take the dot product of a row of g and a row of W for every entry, without autograd.

    Args:
        g: left rows, shape (n, d).
        W: right rows, shape (n_latents, d), dtype of g.
        rows: row of g of each entry, shape (nnz,), int64 or int32; fastest in ascending order.
        latents: row of W of each entry, shape (nnz,), int64 or int32.

    Returns:
        One dot product an entry, shape (nnz,), dtype of g.
    """
    op = "gathered_dots"
    check_floats(op, device=g.device, g=g, W=W)
    check_shape(op, "g", g, {"n": None, "d": None})
    check_shape(op, "W", W, {"n_latents": None, "d": g.shape[1]})
    if W.dtype != g.dtype:
        raise KernelInputError(f"{op}: W is {W.dtype}; wanted the dtype of g, {g.dtype}.")
    check_shape(op, "rows", rows, {"nnz": None})
    check_shape(op, "latents", latents, {"nnz": len(rows)})
    check_indices(op, "rows", rows, device=g.device, size=len(g))
    check_indices(op, "latents", latents, device=g.device, size=len(W))
    implementation = choose(op, g, W)
    if implementation == "triton":
        dots: Tensor = load_kernel("gathered_dots").gathered_dots(g, W, rows, latents)
        return dots
    if implementation == "torch":
        return cpu.gathered_dots(g, W, rows, latents)
    return reference.gathered_dots(g, W, rows, latents)
