"""Spec of `fused_sparse_adam`, whose step in place is made a function for the tests."""

from typing import Any

import torch
from torch import Tensor

from saetools_kernels.fused_sparse_adam import (
    AdamSettings,
    RowGradient,
    SomeRows,
    fused_sparse_adam,
    reference,
    row_sums,
)
from saetools_kernels.row_scatter_add import order_by_latent
from saetools_kernels.spec import Case, OpSpec, draw_entries, strided

__all__ = ["SPECS"]

_SETTINGS = AdamSettings(lr=0.05, step=3, unit_rows=True, scale=0.5)


def _gradient(entries: dict[str, Tensor], n_latents: int) -> RowGradient:
    """A sum over entries, another over the same in reverse, and some rows, as AuxK gives them."""
    order = order_by_latent(entries["latents"], n_latents)
    source = entries["source"]
    values, rows = entries["values"], entries["rows"]
    sums = (
        row_sums(values, rows, order, source),
        row_sums(-values, rows.flip(0), order, source * source),
    )
    some = torch.arange(0, n_latents, 3, device=source.device)
    extra = source.mean(0) if len(source) else source.sum(0)
    return RowGradient(sums, (SomeRows(some, extra.expand(len(some), -1)),))


def _function(W: Tensor, m: Tensor, v: Tensor, **entries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    W, m, v = (tensor.clone(memory_format=torch.contiguous_format) for tensor in (W, m, v))
    fused_sparse_adam(W, m, v, _gradient(entries, len(W)), _SETTINGS)
    return W, m, v


def _reference(W: Tensor, m: Tensor, v: Tensor, **entries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    W, m, v = (tensor.clone() for tensor in (W, m, v))
    reference.fused_sparse_adam(W, m, v, _gradient(entries, len(W)), _SETTINGS)
    return W, m, v


def _state(case: Case, generator: torch.Generator) -> dict[str, Any]:
    """Draw moments that are not small: at 0 / 0 rounding alone decides where a step goes."""
    values, latents = draw_entries(case, generator)
    shape = (case.n_latents, case.d)
    W, m, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    arguments = {
        "W": torch.nn.functional.normalize(W, dim=1),
        "m": m,
        "v": v.square() + 0.1,
        "values": values.reshape(-1),
        "rows": torch.arange(case.n).repeat_interleave(case.k),
        "latents": latents.reshape(-1),
        "source": torch.randn(case.n, case.d, generator=generator, dtype=torch.float64),
    }
    return {name: strided(case, tensor) for name, tensor in arguments.items()}


def _n_bytes(case: Case, itemsize: int) -> int:
    entries = case.n * case.k
    return entries * (case.d * itemsize + itemsize + 8) + 6 * 4 * case.n_latents * case.d


SPECS = (
    OpSpec(
        name="fused_sparse_adam",
        function=_function,
        reference=_reference,
        implementations=("torch", "triton"),
        make_inputs=_state,
        differentiable=(),
        n_bytes=_n_bytes,
        canonical=lambda state: torch.stack(state),
        dtypes=(torch.float32,),
    ),
)
