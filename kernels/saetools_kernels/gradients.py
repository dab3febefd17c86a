"""The public ops, differentiable.

Decode, scatter and gathered dots are each other's derivatives (all three are partial derivatives
of Σ_j v_j ⟨g[rows_j], W[latents_j]⟩), so their autograd functions live side by side here and the
files of the ops stay free of cycles. Backward passes call the public ops again: second derivatives
work. An implementation chosen for the forward pass is kept for its backward pass, which may run in
another thread or after the `with` block has ended.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from saetools_kernels._checks import check_floats, check_indices, check_shape
from saetools_kernels._dispatch import Implementation, choose, use_implementation
from saetools_kernels.batch_topk import batch_topk_forward
from saetools_kernels.gathered_dots import gathered_dots_forward
from saetools_kernels.prefix_decode import prefix_decode_forward
from saetools_kernels.row_scatter_add import row_scatter_add_forward
from saetools_kernels.sparse_decode import bag_decode_forward, sparse_decode_forward
from saetools_kernels.threshold_rows import Entries, threshold_rows_forward
from saetools_kernels.topk_rows import TopK, topk_rows_forward

__all__ = [
    "PrefixLoss",
    "aux_decode",
    "bag_decode",
    "batch_topk",
    "gathered_dots",
    "prefix_loss",
    "row_scatter_add",
    "sparse_decode",
    "threshold_rows",
    "topk_rows",
]


class PrefixLoss(NamedTuple):
    """The loss over nested reconstructions.

    loss is a scalar with gradients; errors (levels,), the squared error of each level summed over
    tokens, and residual (n, d), that of the last level, have none.
    """

    loss: Tensor
    errors: Tensor
    residual: Tensor


def sparse_decode(values: Tensor, indices: Tensor, W: Tensor) -> Tensor:
    """Reconstruct n tokens from k latents each: out[i] = Σ_j values[i, j] · W[indices[i, j]].

    Differentiable in `values` and `W`. A slot of value 0 is empty and may hold any valid index.

    Args:
        values: activations, shape (n, k).
        indices: latent of each value, shape (n, k), int64 or int32.
        W: decoder, shape (n_latents, d).

    Returns:
        Reconstructions without bias, shape (n, d), dtype of W.

    Raises:
        KernelInputError: when an argument has another shape, dtype, device or range.

    Example:
        >>> sparse_decode(torch.ones(1, 2), torch.tensor([[0, 2]]), torch.eye(3))
        tensor([[1., 0., 1.]])
    """
    return _apply(_SparseDecode, values, indices, W)


def bag_decode(values: Tensor, indices: Tensor, offsets: Tensor, W: Tensor) -> Tensor:
    """Reconstruct bags of any size: out[b] sums values[j] · W[indices[j]] over the bag's entries.

    Differentiable in `values` and `W`. It serves a varying number of latents a token, and
    Matryoshka widths, where a bag is the part of a token's latents that one width adds.

    Args:
        values: activations, shape (nnz,).
        indices: latent of each value, shape (nnz,), int64 or int32.
        offsets: start of each bag, then nnz, shape (n_bags + 1,), int64 or int32.
        W: decoder, shape (n_latents, d).

    Returns:
        One sum a bag, shape (n_bags, d), dtype of W; an empty bag gives zeros.

    Raises:
        KernelInputError: when an argument has another shape, dtype, device or range.

    Example:
        >>> bag_decode(torch.ones(2), torch.tensor([0, 2]), torch.tensor([0, 2, 2]), torch.eye(3))
        tensor([[1., 0., 1.],
                [0., 0., 0.]])
    """
    return _apply(_BagDecode, values, indices, offsets, W)


def row_scatter_add(
    values: Tensor, rows: Tensor, latents: Tensor, x: Tensor, n_latents: int
) -> Tensor:
    """Add weighted rows up by latent: out[f] = Σ_{j: latents[j] = f} values[j] · x[rows[j]].

    Differentiable in `values` and `x`; deterministic.

    Args:
        values: weights, shape (nnz,).
        rows: row of x of each weight, shape (nnz,), int64 or int32.
        latents: latent of each weight, shape (nnz,), int64 or int32.
        x: rows to add up, shape (n, d).
        n_latents: number of rows of the result.

    Returns:
        One sum a latent, shape (n_latents, d), dtype of x.

    Raises:
        KernelInputError: when an argument has another shape, dtype, device or range.

    Example:
        >>> one = torch.ones(2)
        >>> row_scatter_add(one, torch.tensor([0, 1]), torch.tensor([1, 1]), torch.eye(2), 2)
        tensor([[0., 0.],
                [1., 1.]])
    """
    return _apply(_RowScatterAdd, values, rows, latents, x, n_latents)


def aux_decode(
    x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, latents: Tensor, k: int
) -> Tensor:
    """Reconstruct from the k largest of a few listed latents: the AuxK term over dead latents.

    Differentiable in `x`, `W_enc`, `b_enc` and `W_dec`; gradients reach the chosen latents that are
    positive.

    Args:
        x: centred input (or residual to explain), shape (n, d).
        W_enc: encoder, latent-major, shape (n_latents, d), dtype of x.
        b_enc: encoder bias, shape (n_latents,).
        W_dec: decoder, shape (n_latents, d).
        latents: which latents may be chosen, each once, shape (m,), int64 or int32.
        k: how many to choose a row, from 0 to m.

    Returns:
        Reconstructions without bias, shape (n, d), dtype of W_dec.

    Raises:
        KernelInputError: when an argument has another shape, dtype, device or range.

    Example:
        >>> eye = torch.eye(2)
        >>> aux_decode(torch.tensor([[3.0, 2.0]]), eye, torch.zeros(2), eye, torch.tensor([1]), 1)
        tensor([[0., 2.]])
    """
    op = "aux_decode"
    check_floats(op, device=x.device, x=x, W_enc=W_enc, b_enc=b_enc, W_dec=W_dec)
    check_shape(op, "x", x, {"n": None, "d": None})
    check_shape(op, "W_enc", W_enc, {"n_latents": None, "d": x.shape[1]})
    check_shape(op, "b_enc", b_enc, {"n_latents": len(W_enc)})
    check_shape(op, "W_dec", W_dec, {"n_latents": len(W_enc), "d": x.shape[1]})
    check_shape(op, "latents", latents, {"m": None})
    check_indices(op, "latents", latents, device=x.device, size=len(W_enc))
    with torch.no_grad():
        pre_acts = torch.addmm(b_enc[latents], x, W_enc[latents].T)  # (n, m)
        indices = latents[topk_rows_forward(pre_acts, k).indices]  # (n, k)
    rows = torch.arange(len(x), device=x.device).repeat_interleave(k)
    chosen = gathered_dots(x, W_enc, rows, indices.flatten()).view_as(indices) + b_enc[indices]
    return sparse_decode(chosen.relu(), indices, W_dec)


def batch_topk(x: Tensor, k: int) -> Entries:
    """Select the k·n largest elements of a batch, exactly, the first in row-major order of equals.

    Differentiable in `x`: the gradient of a value goes to the element it came from.

    Args:
        x: shape (n, n_latents).
        k: how many to keep a row on average, from 0 to n_latents.

    Returns:
        `Entries(values, rows, latents, bounds)`, in order of row, then column.

    Raises:
        KernelInputError: when x is no floating matrix or k lies out of range.

    Example:
        >>> batch_topk(torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 0.0]]), 1).latents
        tensor([1, 2])
    """
    return _with_gradient(x, batch_topk_forward(x, k))


def threshold_rows(x: Tensor, thresholds: Tensor) -> Entries:
    """List every element that exceeds its column's threshold: a JumpReLU's active latents.

    Differentiable in `x`; `thresholds` get no gradient.

    Args:
        x: shape (n, n_latents).
        thresholds: one a column, shape (n_latents,).

    Returns:
        `Entries(values, rows, latents, bounds)`, in order of row, then column.

    Raises:
        KernelInputError: when an argument has another shape, dtype or device.

    Example:
        >>> threshold_rows(torch.tensor([[1.0, 3.0]]), torch.tensor([0.5, 4.0])).latents
        tensor([0])
    """
    return _with_gradient(x, threshold_rows_forward(x, thresholds))


def gathered_dots(g: Tensor, W: Tensor, rows: Tensor, latents: Tensor) -> Tensor:
    """Take one dot product an entry: out[j] = ⟨g[rows[j]], W[latents[j]]⟩.

    Differentiable in `g` and `W`.

    Args:
        g: left rows, shape (n, d).
        W: right rows, shape (n_latents, d), dtype of g.
        rows: row of g of each entry, shape (nnz,), int64 or int32; fastest in ascending order.
        latents: row of W of each entry, shape (nnz,), int64 or int32.

    Returns:
        One dot product an entry, shape (nnz,), dtype of g.

    Raises:
        KernelInputError: when an argument has another shape, dtype, device or range.

    Example:
        >>> gathered_dots(torch.ones(1, 2), torch.eye(2), torch.tensor([0]), torch.tensor([1]))
        tensor([1.])
    """
    return _apply(_GatheredDots, g, W, rows, latents)


def prefix_loss(
    values: Tensor, latents: Tensor, bounds: Tensor, W: Tensor, target: Tensor, weights: Tensor
) -> PrefixLoss:
    """Sum the squared errors of nested reconstructions: Σ_l weights[l] · Σ_i ‖r_l[i]‖².

    r_l[i] is target[i] minus the entries of token i in levels 0..l, decoded. Differentiable, once,
    in `values`, `W` and `target`; `weights` get no gradient.

    Args:
        values: activations, ordered by token, then level, shape (nnz,).
        latents: latent of each value, shape (nnz,), int64 or int32.
        bounds: where bag (token · levels + level) begins, then nnz, shape (n · levels + 1,).
        W: decoder, shape (n_latents, d).
        target: what to reconstruct, shape (n, d).
        weights: weight of each level's error, shape (levels,).

    Returns:
        `PrefixLoss(loss, errors, residual)`; loss and errors are float32 (float64 for float64).

    Raises:
        KernelInputError: when an argument has another shape, dtype, device or range.

    Example:
        >>> one = torch.ones(1)
        >>> bounds = torch.tensor([0, 1])
        >>> prefix_loss(one, torch.tensor([0]), bounds, torch.eye(2), torch.ones(1, 2), one).loss
        tensor(1.)
    """
    result = _PrefixLoss.apply(  # type: ignore[no-untyped-call]  # torch's gap
        values, latents, bounds, W, target, weights
    )
    return PrefixLoss(*result)


def topk_rows(x: Tensor, k: int) -> TopK:
    """Select the k largest elements of every row, exactly, the lowest index among equals.

    The order of the k is not promised. Differentiable in `x`: the gradient of a value goes to the
    element it came from.

    Args:
        x: shape (n, n_latents).
        k: how many to keep, from 0 to n_latents.

    Returns:
        `TopK(values, indices)`, both of shape (n, k); indices are int64.

    Raises:
        KernelInputError: when x is no floating matrix or k lies out of range.

    Example:
        >>> topk_rows(torch.tensor([[1.0, 3.0, 2.0]]), 1)
        TopK(values=tensor([[3.]]), indices=tensor([[1]]))
    """
    top = topk_rows_forward(x, k)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return top
    return TopK(x.gather(1, top.indices), top.indices)


class _SparseDecode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indices: Tensor, W: Tensor) -> Tensor:
        out = sparse_decode_forward(values, indices, W)
        _remember(ctx, "sparse_decode", values, W)
        ctx.save_for_backward(values, indices, W)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, indices, W = ctx.saved_tensors
        n, k = values.shape
        rows = torch.arange(n, device=W.device).repeat_interleave(k)
        d_values, d_W = _decode_gradients(ctx, values.reshape(-1), rows, indices.reshape(-1), grad)
        return (None if d_values is None else d_values.view(n, k)), None, d_W


class _BagDecode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indices: Tensor, offsets: Tensor, W: Tensor) -> Tensor:
        out = bag_decode_forward(values, indices, offsets, W)
        _remember(ctx, "bag_decode", values, W)
        ctx.save_for_backward(values, indices, W, offsets)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, indices, _, offsets = ctx.saved_tensors
        sizes = (offsets[1:] - offsets[:-1]).long()
        rows = torch.arange(len(sizes), device=grad.device).repeat_interleave(sizes)
        d_values, d_W = _decode_gradients(ctx, values, rows, indices, grad)
        return d_values, None, None, d_W


class _RowScatterAdd(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, rows: Tensor, latents: Tensor, x: Tensor, n_latents: int
    ) -> Tensor:
        out = row_scatter_add_forward(values, rows, latents, x, n_latents)
        _remember(ctx, "row_scatter_add", values, x)
        ctx.save_for_backward(values, rows, latents, x)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, rows, latents, x = ctx.saved_tensors
        d_values = d_x = None
        with use_implementation(ctx.implementation):
            if ctx.needs_input_grad[0]:
                d_values = gathered_dots(x, grad, rows, latents).to(values.dtype)
            if ctx.needs_input_grad[3]:
                d_x = row_scatter_add(values, latents, rows, grad, len(x))
        return d_values, None, None, d_x, None


class _GatheredDots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, W: Tensor, rows: Tensor, latents: Tensor) -> Tensor:
        out = gathered_dots_forward(g, W, rows, latents)
        _remember(ctx, "gathered_dots", g, W)
        ctx.save_for_backward(g, W, rows, latents)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        g, W, rows, latents = ctx.saved_tensors
        d_g = d_W = None
        with use_implementation(ctx.implementation):
            if ctx.needs_input_grad[0]:
                d_g = row_scatter_add(grad, latents, rows, W, len(g))
            if ctx.needs_input_grad[1]:
                d_W = row_scatter_add(grad, rows, latents, g, len(W))
        return d_g, d_W, None, None


class _PrefixLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        latents: Tensor,
        bounds: Tensor,
        W: Tensor,
        target: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, ...]:
        errors, sources, residual, dots = prefix_decode_forward(
            values, latents, bounds, W, target, weights
        )
        _remember(ctx, "prefix_decode", values, W, target)
        ctx.save_for_backward(values, latents, bounds, sources, dots)
        ctx.shapes = (len(W), len(weights), values.dtype, target.dtype)
        ctx.mark_non_differentiable(errors, residual)
        return (weights.to(errors.dtype) * errors).sum(), errors, residual

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        values, latents, bounds, sources, dots = ctx.saved_tensors
        n_latents, n_levels, values_dtype, target_dtype = ctx.shapes
        d_values = d_W = d_target = None
        if ctx.needs_input_grad[0]:
            d_values = (dots * (-2 * grad)).to(values_dtype)
        if ctx.needs_input_grad[3]:
            bags = torch.arange(len(sources), device=grad.device)
            rows = bags.repeat_interleave(bounds.diff().long())
            with use_implementation(ctx.implementation):
                d_W = row_scatter_add(values * (-2 * grad), rows, latents, sources, n_latents)
        if ctx.needs_input_grad[4]:
            d_target = (sources[::n_levels] * (2 * grad)).to(target_dtype)
        return d_values, None, None, d_W, d_target, None


def _with_gradient(x: Tensor, found: Entries) -> Entries:
    if not (x.requires_grad and torch.is_grad_enabled()):
        return found
    return found._replace(values=x[found.rows, found.latents])


def _apply(function: type[torch.autograd.Function], *args: Any) -> Tensor:
    result: Tensor = function.apply(*args)  # type: ignore[no-untyped-call]  # torch's gap
    return result


def _decode_gradients(
    ctx: Any, values: Tensor, rows: Tensor, latents: Tensor, grad: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of a decode's values and decoder, each None where nobody needs it."""
    W = ctx.saved_tensors[2]
    d_values = d_W = None
    with use_implementation(ctx.implementation):
        if ctx.needs_input_grad[0]:
            d_values = gathered_dots(grad, W, rows, latents).to(values.dtype)
        if ctx.needs_input_grad[-1]:
            d_W = row_scatter_add(values, rows, latents, grad, len(W))
    return d_values, d_W


def _remember(ctx: FunctionCtx, op: str, *tensors: Tensor) -> None:
    implementation: Implementation = choose(op, *tensors)
    ctx.implementation = implementation  # type: ignore[attr-defined]  # torch keeps it on the node
