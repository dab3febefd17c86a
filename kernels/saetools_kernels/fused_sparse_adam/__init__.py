"""Adam on a latent-major matrix whose gradient is never written: sum, project, step, renormalise.

    g[f] = scale · Σ_j values[j] · source[rows[j]]        the rows of latent f
    g[f] ← g[f] − ⟨g[f], W[f]⟩ W[f]                        unit_rows only
    m ← β1 m + (1 − β1) g      v ← β2 v + (1 − β2) g²
    W ← W − lr · m / (1 − β1^t) / (√(v / (1 − β2^t)) + ε)
    W[f] ← W[f] / ‖W[f]‖                                  unit_rows only

It equals dense Adam on the same gradient: moments of latents that did not fire decay and move their
rows, as they do there (`lazy` leaves them alone; it has no Triton form). W, m and v change in
place; nothing here has autograd.

The Triton kernel takes float32 weights of rows up to 8192 wide (any width where the gradient is
written out and rows have no norm to keep) and a gradient of at most two sums, one set of rows and
one whole matrix; anything else goes to the torch path.
"""

import torch
from torch import Tensor

from saetools_kernels._checks import check_floats, check_out, check_shape
from saetools_kernels._dispatch import choose
from saetools_kernels._errors import KernelInputError
from saetools_kernels._launch import load_kernel
from saetools_kernels.fused_sparse_adam import cpu, reference
from saetools_kernels.fused_sparse_adam.gradient import RowGradient, RowSums, SomeRows, row_sums
from saetools_kernels.fused_sparse_adam.settings import AdamSettings

__all__ = [
    "AdamSettings",
    "RowGradient",
    "RowSums",
    "SomeRows",
    "fused_sparse_adam",
    "gradient_squared_norm",
    "row_sums",
]

_MAX_TRITON_WIDTH = 8192


@torch.no_grad()
def fused_sparse_adam(
    W: Tensor,
    m: Tensor,
    v: Tensor,
    gradient: RowGradient,
    settings: AdamSettings,
    *,
    shadow: Tensor | None = None,
) -> None:
    """Take one Adam step on W (n_latents, d), in place.

    Args:
        W: weights, contiguous, float32 or float64.
        m: first moments, shape of W, its dtype or bfloat16; changed in place.
        v: second moments, likewise.
        gradient: the gradient, in the form in which it arose.
        settings: step size, decays, number of the step.
        shadow: a copy of W in another floating dtype, shape of W, contiguous; receives the new W.

    Raises:
        KernelInputError: shapes, dtypes or devices do not fit, or the step is below 1.
    """
    op = "fused_sparse_adam"
    check_shape(op, "W", W, {"n_latents": None, "d": None})
    check_floats(op, device=W.device, W=W, m=m, v=v)
    for name, moment in (("m", m), ("v", v)):
        check_shape(op, name, moment, {"n_latents": len(W), "d": W.shape[1]})
        if moment.dtype not in (W.dtype, torch.bfloat16):
            raise KernelInputError(
                f"{op}: {name} is {moment.dtype}; wanted the dtype of W, {W.dtype}, or bfloat16."
            )
    if not W.is_contiguous() or settings.step < 1:
        raise KernelInputError(
            f"{op}: W must be contiguous and the step at least 1; got strides {W.stride()} and "
            f"step {settings.step}."
        )
    _check(op, W, gradient)
    check_out(op, shadow, shape=tuple(W.shape), dtype=None, device=W.device, name="shadow")
    has_triton = not settings.lazy and _fits_triton(W, m, v, gradient, settings)
    implementation = choose(op, W, has_triton=has_triton)
    if implementation == "triton":
        load_kernel(op).fused_sparse_adam(W, m, v, gradient, settings, shadow)
        return
    path = reference if implementation == "reference" else cpu
    path.fused_sparse_adam(W, m, v, gradient, settings)
    if shadow is not None:
        shadow.copy_(W)


@torch.no_grad()
def gradient_squared_norm(W: Tensor, gradient: RowGradient, *, unit_rows: bool = False) -> Tensor:
    """Σ of squares of the gradient that `fused_sparse_adam` would step along, before its scale.

    Costs one more pass over the entries; the gradient is not written here either.
    """
    _check("gradient_squared_norm", W, gradient)
    return cpu.squared_norm(W, gradient, unit_rows=unit_rows)


def _fits_triton(
    W: Tensor, m: Tensor, v: Tensor, gradient: RowGradient, settings: AdamSettings
) -> bool:
    """Tell whether one program can hold a row, and read the gradient in the form it has."""
    by_element = gradient.is_whole and not settings.unit_rows
    return (
        (by_element or W.shape[1] <= _MAX_TRITON_WIDTH)
        and W.dtype == torch.float32
        and m.is_contiguous()
        and v.is_contiguous()
        and len(gradient.sums) <= 2
        and len(gradient.some) <= 1
    )


def _check(op: str, W: Tensor, gradient: RowGradient) -> None:
    n_latents, d = W.shape
    for part in gradient.sums:
        check_shape(op, "sums.offsets", part.offsets, {"n_latents + 1": n_latents + 1})
        check_shape(op, "sums.source", part.source, {"m": None, "d": d})
        check_shape(op, "sums.rows", part.rows, {"nnz": len(part.values)})
    for some in gradient.some:
        check_shape(op, "some.rows", some.rows, {"m": len(some.latents), "d": d})
    if gradient.whole is not None:
        check_shape(op, "whole", gradient.whole, {"n_latents": n_latents, "d": d})
