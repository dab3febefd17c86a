"""Nested reconstructions: errors, residuals and gradients at every level from one gather.

A token's entries are cut into levels; reconstruction l is the sum of levels 0..l. With target t,
decoder W, level weights w and b(j) the bag (token i, level l) of entry j:

    x_hat_l[i]   = Σ_{m ≤ l} Σ_{j in bag (i, m)} values[j] · W[latents[j]]
    r_l[i]       = t[i] - x_hat_l[i]
    errors[l]    = Σ_i ‖r_l[i]‖²
    sources[i,l] = Σ_{m ≥ l} w_m · r_m[i]
    dots[j]      = ⟨sources[b(j)], W[latents[j]]⟩

For the loss Σ_l w_l · errors[l] these are the gradients, up to a factor:

    d values[j] = -2 · dots[j]
    d W[f]      = -2 · Σ_{latents[j] = f} values[j] · sources[b(j)]     the op row_scatter_add
    d t[i]      =  2 · sources[i, 0]

One level is a plain TopK step. Levels by latent are Matryoshka (2503.17547), levels by rank the
nested-k loss of HierarchicalTopK (2505.24473); Multi-TopK is the same with two levels. The form
here has no autograd; `saetools_kernels.prefix_loss` is differentiable.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from saetools_kernels._checks import (
    check_floats,
    check_indices,
    check_offsets,
    check_out,
    check_shape,
)
from saetools_kernels._dispatch import choose
from saetools_kernels._errors import KernelInputError
from saetools_kernels._launch import load_kernel
from saetools_kernels.prefix_decode import cpu, reference

__all__ = ["PrefixDecode", "prefix_decode_forward"]

_MAX_TRITON_LEVELS = 8  # a program holds one sum a level in its registers


class PrefixDecode(NamedTuple):
    """What one pass over nested reconstructions gives.

    errors (levels,) are squared errors summed over tokens; they and dots (nnz,) are float32
    (float64 for float64 input). sources (n · levels, d) and residual (n, d) of the last level have
    the dtype of W.
    """

    errors: Tensor
    sources: Tensor
    residual: Tensor
    dots: Tensor


@torch.no_grad()
def prefix_decode_forward(
    values: Tensor,
    latents: Tensor,
    bounds: Tensor,
    W: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    out_sources: Tensor | None = None,
    out_residual: Tensor | None = None,
) -> PrefixDecode:
    """Reconstruct at every level, and take what the gradients need, without autograd.

    Args:
        values: activations, ordered by token, then level, shape (nnz,).
        latents: latent of each value, shape (nnz,), int64 or int32.
        bounds: where bag (token · levels + level) begins, then nnz, shape (n · levels + 1,).
        W: decoder, shape (n_latents, d).
        target: what to reconstruct, shape (n, d).
        weights: weight of each level's error, shape (levels,), floating point, any finite values;
            the Triton kernel takes up to 8 levels, more go to the torch path.
        out_sources: buffer to write, shape (n · levels, d), dtype of W.
        out_residual: buffer to write, shape (n, d), dtype of W; not `target` itself.

    Returns:
        `PrefixDecode(errors, sources, residual, dots)`; the dots use sources before rounding.
    """
    op = "prefix_decode"
    check_floats(op, device=W.device, W=W, values=values, target=target, weights=weights)
    check_shape(op, "W", W, {"n_latents": None, "d": None})
    check_shape(op, "values", values, {"nnz": None})
    check_shape(op, "latents", latents, {"nnz": len(values)})
    check_shape(op, "target", target, {"n": None, "d": W.shape[1]})
    check_shape(op, "weights", weights, {"levels": None})
    n, n_levels = len(target), len(weights)
    if n_levels == 0:
        raise KernelInputError(f"{op}: weights is empty; it needs one weight a level, at least 1.")
    check_indices(op, "latents", latents, device=W.device, size=len(W))
    check_offsets(op, "bounds", bounds, device=W.device, n_entries=len(values))
    check_shape(op, "bounds", bounds, {"n * levels + 1": n * n_levels + 1})
    outs = {"out_sources": (out_sources, n * n_levels), "out_residual": (out_residual, n)}
    for name, (out, n_rows) in outs.items():
        check_out(op, out, shape=(n_rows, W.shape[1]), dtype=W.dtype, device=W.device, name=name)
    sources = W.new_empty(n * n_levels, W.shape[1]) if out_sources is None else out_sources
    residual = torch.empty_like(sources[:n]) if out_residual is None else out_residual
    implementation = choose(op, values, W, target, has_triton=n_levels <= _MAX_TRITON_LEVELS)
    arguments = (values, latents, bounds, W, target, weights)
    if implementation == "reference":
        errors, sums, last, dots = reference.prefix_decode(*arguments)
        return PrefixDecode(errors, sources.copy_(sums), residual.copy_(last), dots)
    path = load_kernel(op) if implementation == "triton" else cpu
    errors, dots = path.prefix_decode(*arguments, sources=sources, residual=residual)
    return PrefixDecode(errors, sources, residual, dots)
