"""Spec of `threshold_rows`."""

from typing import Any

import torch
from torch import Tensor

from saetools_kernels import gradients
from saetools_kernels.spec import Case, OpSpec, strided
from saetools_kernels.threshold_rows import reference

__all__ = ["SPECS", "listed", "whole_numbers"]

_CASES = (
    Case("n0", n=0, d=1, n_latents=40, k=2),
    Case("n1", n=1, d=1, n_latents=5, k=3),
    Case("n63", n=63, d=1, n_latents=27, k=4),
    Case("k1", n=5, d=1, n_latents=33, k=1),
    Case("k_all", n=4, d=1, n_latents=19, k=19),
    Case("two_blocks", n=2, d=1, n_latents=2500, k=6),
    Case("strided", n=9, d=1, n_latents=130, k=4, pattern="strided"),
)


def whole_numbers(case: Case, generator: torch.Generator) -> Tensor:
    """Draw a matrix of whole numbers that every dtype holds, few of them large, many equal."""
    x = torch.randn(case.n, case.n_latents, generator=generator, dtype=torch.float64)
    return strided(case, (x * 3).round())


def _inputs(case: Case, generator: torch.Generator) -> dict[str, Any]:
    """Draw thresholds between whole numbers; about k a row pass."""
    x = whole_numbers(case, generator)
    rank = max(1, round(case.n_latents * (1 - case.k / case.n_latents)))
    level = x.float().flatten().kthvalue(max(1, rank * case.n)).values if case.n else 0.0
    around = torch.randint(-1, 2, (case.n_latents,), generator=generator)
    return {"x": x, "thresholds": strided(case, (around + level + 0.5).double())}


def listed(entries: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Put everything that describes entries into one tensor."""
    values, rows, latents, bounds = entries
    return torch.cat([values, *(part.to(values.dtype) for part in (rows, latents, bounds))])


def _n_bytes(case: Case, itemsize: int) -> int:
    return 2 * case.n * case.n_latents * itemsize + case.n * case.k * (itemsize + 16)


SPECS = (
    OpSpec(
        name="threshold_rows",
        function=gradients.threshold_rows,
        reference=reference.threshold_rows,
        implementations=("torch", "triton"),
        make_inputs=_inputs,
        differentiable=("x",),
        n_bytes=_n_bytes,
        canonical=listed,
        twice_differentiable=False,
        cases=_CASES,
    ),
)
