"""Decode: every token's reconstruction is a weighted sum of k decoder rows.

    out[b] = Σ_j values[j] · W[indices[j]]        for j in offsets[b] .. offsets[b + 1]

`bag_decode` takes ragged bags; `sparse_decode` is the same with k entries a token. Gradients,
with G the gradient of `out` and b(j) the bag of entry j:

    d values[j] = ⟨G[b(j)], W[indices[j]]⟩                  the op gathered_dots
    d W[f]      = Σ_{j: indices[j] = f} values[j] · G[b(j)]  the op row_scatter_add

A slot of value 0 is empty: it adds nothing to `out` and nothing to the gradient of W. The forms
here have no autograd; `saetools_kernels.gradients` adds it.
"""

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
from saetools_kernels._launch import load_kernel
from saetools_kernels.sparse_decode import cpu, reference

__all__ = ["bag_decode_forward", "sparse_decode_forward"]


@torch.no_grad()
def sparse_decode_forward(
    values: Tensor, indices: Tensor, W: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """Decode k latents a token, without autograd.

    Args:
        values: activations, shape (n, k).
        indices: latent of each value, shape (n, k), int64 or int32.
        W: decoder, shape (n_latents, d).
        out: buffer to write, shape (n, d), dtype of W.

    Returns:
        Reconstructions without bias, shape (n, d), dtype of W.
    """
    op = "sparse_decode"
    check_shape(op, "values", values, {"n": None, "k": None})
    n, k = values.shape
    check_shape(op, "indices", indices, {"n": n, "k": k})
    offsets = torch.arange(0, n * k + 1, k, device=values.device) if k else _no_entries(values)
    return _decode(op, values.reshape(-1), indices.reshape(-1), offsets, W, out)


@torch.no_grad()
def bag_decode_forward(
    values: Tensor, indices: Tensor, offsets: Tensor, W: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """Decode bags of any size, without autograd.

    Args:
        values: activations, shape (nnz,).
        indices: latent of each value, shape (nnz,), int64 or int32.
        offsets: start of each bag, then nnz, shape (n_bags + 1,), int64 or int32.
        W: decoder, shape (n_latents, d).
        out: buffer to write, shape (n_bags, d), dtype of W.

    Returns:
        One sum a bag, shape (n_bags, d), dtype of W; an empty bag gives zeros.
    """
    op = "bag_decode"
    check_shape(op, "values", values, {"nnz": None})
    check_shape(op, "indices", indices, {"nnz": len(values)})
    check_offsets(op, "offsets", offsets, device=values.device, n_entries=len(values))
    return _decode(op, values, indices, offsets, W, out)


def _no_entries(values: Tensor) -> Tensor:
    return torch.zeros(len(values) + 1, dtype=torch.int64, device=values.device)


def _decode(
    op: str, values: Tensor, indices: Tensor, offsets: Tensor, W: Tensor, out: Tensor | None
) -> Tensor:
    check_floats(op, device=values.device, values=values, W=W)
    check_shape(op, "W", W, {"n_latents": None, "d": None})
    check_indices(op, "indices", indices, device=values.device, size=len(W))
    shape = (len(offsets) - 1, W.shape[1])
    check_out(op, out, shape=shape, dtype=W.dtype, device=W.device)
    implementation = choose(op, values, W)
    if implementation == "triton":
        kernel = load_kernel("sparse_decode")
        decoded: Tensor = kernel.bag_decode(values, indices, offsets, W, out=out)
        return decoded
    if implementation == "torch":
        return cpu.bag_decode(values, indices, offsets, W, out=out)
    result = reference.bag_decode(values, indices, offsets, W)
    return result if out is None else out.copy_(result)
