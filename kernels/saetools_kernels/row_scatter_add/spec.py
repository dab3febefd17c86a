"""Spec of `row_scatter_add`."""

from typing import Any

import torch

from saetools_kernels import gradients
from saetools_kernels.row_scatter_add import reference
from saetools_kernels.spec import Case, OpSpec, draw_entries, strided

__all__ = ["SPECS"]


def _entries(case: Case, generator: torch.Generator) -> dict[str, Any]:
    values, latents = draw_entries(case, generator)
    arguments = {
        "values": values.reshape(-1),
        "rows": torch.arange(case.n).repeat_interleave(case.k),
        "latents": latents.reshape(-1),
        "x": torch.randn(case.n, case.d, generator=generator, dtype=torch.float64),
    }
    tensors = {name: strided(case, tensor) for name, tensor in arguments.items()}
    return {**tensors, "n_latents": case.n_latents}


def _n_bytes(case: Case, itemsize: int) -> int:
    entries = case.n * case.k
    return entries * (case.d * itemsize + itemsize + 24) + case.n_latents * case.d * itemsize


SPECS = (
    OpSpec(
        name="row_scatter_add",
        function=gradients.row_scatter_add,
        reference=reference.row_scatter_add,
        implementations=("torch", "triton"),
        make_inputs=_entries,
        differentiable=("values", "x"),
        n_bytes=_n_bytes,
    ),
)
