"""The differentiable pieces of a sparse autoencoder: the only door to `saetools_kernels`.

Nothing here knows an architecture. A selection rule picks (token, latent) pairs without a gradient;
`pre_act_values` attaches the gradient to just those pairs; `bag_decode` and `sparse_decode` turn
them back into activations. Every cost is proportional to the number of pairs.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

import saetools_kernels as kernels
from saetools.errors import KernelInputError, KernelUnavailableError
from saetools_kernels.spec import all_specs

__all__ = [
    "KernelStatus",
    "bag_decode",
    "kernel_status",
    "pre_act_values",
    "sparse_decode",
    "topk_rows",
    "use_kernels",
]

P = ParamSpec("P")
R = TypeVar("R")

use_kernels = kernels.use_implementation
"""Context manager that forces one implementation: "auto", "triton", "torch" or "reference"."""


class KernelStatus(NamedTuple):
    """One line of `saetools doctor`: what runs an operation here, and why."""

    op: str
    implementation: str
    reason: str


def _as_ours(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the kernels' own errors into saetools'."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except kernels.KernelInputError as error:
            raise KernelInputError(str(error)) from error
        except kernels.KernelUnavailableError as error:
            raise KernelUnavailableError(str(error)) from error

    return call


@_as_ours
def topk_rows(x: Float[Tensor, "n m"], k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The `k` largest entries of each row and their columns, in any order, without a gradient."""
    values, indices = kernels.topk_rows(x, k)
    return values, indices


@_as_ours
def sparse_decode(
    values: Float[Tensor, "n k"],
    indices: Int[Tensor, "n k"],
    weight: Float[Tensor, "n_latents d_in"],
) -> Float[Tensor, "n d_in"]:
    """Σ_j values[:, j] · weight[indices[:, j]], with gradients to values and weight."""
    out: Tensor = kernels.sparse_decode(values, indices, weight)
    return out


@_as_ours
def bag_decode(
    values: Float[Tensor, " nnz"],
    latents: Int[Tensor, " nnz"],
    bounds: Int[Tensor, " bags1"],
    weight: Float[Tensor, "n_latents d_in"],
) -> Float[Tensor, "bags d_in"]:
    """One weighted sum of rows of `weight` for each stretch of the list that `bounds` marks."""
    out: Tensor = kernels.bag_decode(values, latents, bounds, weight)
    return out


def pre_act_values(
    x: Float[Tensor, "n d_in"],
    b_dec: Float[Tensor, " d_in"],
    weight: Float[Tensor, "n_latents d_in"],
    bias: Float[Tensor, " n_latents"],
    *,
    values: Float[Tensor, " nnz"],
    rows: Int[Tensor, " nnz"],
    latents: Int[Tensor, " nnz"],
) -> Float[Tensor, " nnz"]:
    """The chosen pre-activations (x − b_dec)·weight[latent] + bias[latent], with their gradient.

    `values` are those same numbers, as the selection computed them without a gradient. The gradient
    reaches weight, bias and b_dec, and x where it asks for one.
    """
    out: Tensor = _PreActValues.apply(  # type: ignore[no-untyped-call]  # torch is untyped here
        x, b_dec, weight, bias, values, rows, latents
    )
    return out


class _PreActValues(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        b_dec: Tensor,
        weight: Tensor,
        bias: Tensor,  # noqa: ARG004 - here to receive its gradient
        values: Tensor,
        rows: Tensor,
        latents: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, b_dec, weight, rows, latents)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, b_dec, weight, rows, latents = ctx.saved_tensors
        n_latents = len(weight)
        grad_bias = torch.zeros_like(weight[:, 0]).index_add_(0, latents, grad)
        grad_weight = kernels.row_scatter_add(grad, rows, latents, x - b_dec, n_latents)
        # Σ over pairs of grad · weight[latent] needs no gather: it is grad_bias @ weight.
        grad_b_dec = -(grad_bias @ weight)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = kernels.row_scatter_add(grad, latents, rows, weight, len(x))
        return grad_x, grad_b_dec, grad_weight, grad_bias, None, None, None


def kernel_status() -> list[KernelStatus]:
    """What runs each operation on this machine; for `saetools doctor`."""
    state = kernels.available()
    rows = []
    for spec in all_specs().values():
        if "triton" not in spec.implementations:
            rows.append(KernelStatus(spec.name, "torch", "it has no Triton kernel yet"))
        elif state.ok:
            rows.append(KernelStatus(spec.name, "triton", state.reason))
        else:
            rows.append(KernelStatus(spec.name, "torch", f"no Triton: {state.reason}"))
    return rows
