"""Specs of `prefix_decode` and `prefix_loss`."""

from typing import Any

import torch
from torch import Tensor

from saetools_kernels import gradients
from saetools_kernels.prefix_decode import prefix_decode_forward, reference
from saetools_kernels.spec import CASES, Case, OpSpec, draw_entries, strided

__all__ = ["SPECS"]

_CASES = (*CASES, Case("two_blocks", n=3, d=300, n_latents=16, k=8))
_WEIGHTS = (0.5, 1.0, -0.25, 2.0, 1.5)


def _levels(case: Case) -> int:
    return 1 if case.k == 1 else min(len(_WEIGHTS), case.n_latents)


def _entries(case: Case, generator: torch.Generator) -> dict[str, Any]:
    """Cut latents into levels of uneven size, some of them empty."""
    n_levels = _levels(case)
    values, latents = draw_entries(case, generator)
    edges = torch.randint(0, case.n_latents, (n_levels - 1,), generator=generator).sort().values
    level = torch.bucketize(latents, edges, right=True)
    bag, order = (level + n_levels * torch.arange(case.n).unsqueeze(1)).flatten().sort(stable=True)
    arguments = {
        "values": values.flatten()[order],
        "latents": latents.flatten()[order],
        "bounds": torch.searchsorted(bag, torch.arange(case.n * n_levels + 1)),
        "W": torch.randn(case.n_latents, case.d, generator=generator, dtype=torch.float64),
        "target": torch.randn(case.n, case.d, generator=generator, dtype=torch.float64),
        "weights": torch.tensor(_WEIGHTS[:n_levels], dtype=torch.float64),
    }
    return {name: strided(case, tensor) for name, tensor in arguments.items()}


def _all_results(result: tuple[Tensor, ...]) -> Tensor:
    """Put everything into one tensor, errors as means: no part is far larger than another."""
    errors, sources, residual, dots = result
    means = (errors / max(1, residual.numel())).to(sources.dtype)
    return torch.cat([means, sources.flatten(), residual.flatten(), dots.to(sources.dtype)])


def _loss(result: tuple[Tensor, ...]) -> Tensor:
    loss, _, residual = result
    return loss.to(residual.dtype)


def _n_bytes(case: Case, itemsize: int) -> int:
    entries, n_levels = case.n * case.k, _levels(case)
    rows = entries + case.n * (n_levels + 2)
    return rows * case.d * itemsize + entries * (2 * itemsize + 8) + case.n * n_levels * 8


SPECS = (
    OpSpec(
        name="prefix_decode",
        function=prefix_decode_forward,
        reference=reference.prefix_decode,
        implementations=("torch", "triton"),
        make_inputs=_entries,
        differentiable=(),
        n_bytes=_n_bytes,
        canonical=_all_results,
        cases=_CASES,
    ),
    OpSpec(
        name="prefix_loss",
        function=gradients.prefix_loss,
        reference=reference.prefix_loss,
        implementations=("torch", "triton"),
        make_inputs=_entries,
        differentiable=("values", "W", "target"),
        n_bytes=_n_bytes,
        canonical=_loss,
        twice_differentiable=False,
        cases=_CASES,
    ),
)
