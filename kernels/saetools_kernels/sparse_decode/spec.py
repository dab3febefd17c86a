"""Specs of `sparse_decode` and `bag_decode`."""

from typing import Any

import torch
from torch import Tensor

from saetools_kernels import gradients
from saetools_kernels.sparse_decode import reference
from saetools_kernels.spec import Case, OpSpec, draw_entries, strided

__all__ = ["SPECS"]


def _decoder(case: Case, generator: torch.Generator) -> Tensor:
    return torch.randn(case.n_latents, case.d, generator=generator, dtype=torch.float64)


def _rows(case: Case, generator: torch.Generator) -> dict[str, Any]:
    values, indices = draw_entries(case, generator)
    arguments = {"values": values, "indices": indices, "W": _decoder(case, generator)}
    return {name: strided(case, tensor) for name, tensor in arguments.items()}


def _bags(case: Case, generator: torch.Generator) -> dict[str, Any]:
    """Cut the same entries into bags of uneven size, some of them empty."""
    values, indices = draw_entries(case, generator)
    cuts = torch.randint(0, values.numel() + 1, (max(case.n - 1, 0),), generator=generator)
    ends = torch.tensor([values.numel()]) if case.n else cuts
    offsets = torch.cat([torch.tensor([0]), cuts.sort().values, ends])
    arguments = {
        "values": values.reshape(-1),
        "indices": indices.reshape(-1),
        "offsets": offsets,
        "W": _decoder(case, generator),
    }
    return {name: strided(case, tensor) for name, tensor in arguments.items()}


def _n_bytes(case: Case, itemsize: int) -> int:
    entries = case.n * case.k
    return entries * (case.d * itemsize + itemsize + 8) + case.n * case.d * itemsize


SPECS = (
    OpSpec(
        name="sparse_decode",
        function=gradients.sparse_decode,
        reference=reference.sparse_decode,
        implementations=("torch", "triton"),
        make_inputs=_rows,
        differentiable=("values", "W"),
        n_bytes=_n_bytes,
    ),
    OpSpec(
        name="bag_decode",
        function=gradients.bag_decode,
        reference=reference.bag_decode,
        implementations=("torch", "triton"),
        make_inputs=_bags,
        differentiable=("values", "W"),
        n_bytes=_n_bytes,
    ),
)
