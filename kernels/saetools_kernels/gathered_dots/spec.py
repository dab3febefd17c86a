"""Spec of `gathered_dots`."""

from typing import Any

import torch

from saetools_kernels import gradients
from saetools_kernels.gathered_dots import reference
from saetools_kernels.spec import Case, OpSpec, draw_entries, strided

__all__ = ["SPECS"]


def _entries(case: Case, generator: torch.Generator) -> dict[str, Any]:
    latents = draw_entries(case, generator)[1]
    rows = torch.arange(case.n).repeat_interleave(case.k)
    if case.pattern == "duplicates":  # one case whose rows are in no order
        rows = rows[torch.randperm(len(rows), generator=generator)]
    arguments = {
        "g": torch.randn(case.n, case.d, generator=generator, dtype=torch.float64),
        "W": torch.randn(case.n_latents, case.d, generator=generator, dtype=torch.float64),
        "rows": rows,
        "latents": latents.reshape(-1),
    }
    return {name: strided(case, tensor) for name, tensor in arguments.items()}


def _n_bytes(case: Case, itemsize: int) -> int:
    entries = case.n * case.k
    return entries * (case.d * itemsize + itemsize + 16) + case.n * case.d * itemsize


SPECS = (
    OpSpec(
        name="gathered_dots",
        function=gradients.gathered_dots,
        reference=reference.gathered_dots,
        implementations=("torch", "triton"),
        make_inputs=_entries,
        differentiable=("g", "W"),
        n_bytes=_n_bytes,
    ),
)
