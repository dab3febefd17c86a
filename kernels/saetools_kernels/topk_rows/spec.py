"""Spec of `topk_rows`."""

from typing import Any

import torch
from torch import Tensor

from saetools_kernels import gradients
from saetools_kernels.spec import Case, OpSpec, strided
from saetools_kernels.topk_rows import reference

__all__ = ["SPECS"]

_CASES = (
    Case("n0", n=0, d=1, n_latents=40, k=2),
    Case("n1", n=1, d=1, n_latents=5, k=3),
    Case("n63", n=63, d=1, n_latents=27, k=4),
    Case("k0", n=3, d=1, n_latents=6, k=0),
    Case("k1", n=5, d=1, n_latents=33, k=1),
    Case("k_all", n=4, d=1, n_latents=19, k=19),
    Case("one_level", n=3, d=1, n_latents=203, k=5),
    Case("groups", n=2, d=1, n_latents=5003, k=3),
    Case("three_levels", n=600, d=1, n_latents=1031, k=2),
    Case("strided", n=9, d=1, n_latents=300, k=4, pattern="strided"),
)


def _rows(case: Case, generator: torch.Generator) -> dict[str, Any]:
    """Draw rows of whole numbers that every dtype holds, the largest 250 of them different."""
    scores = torch.rand(case.n, case.n_latents, generator=generator)
    x = (scores.argsort(1) - case.n_latents + 200).clamp_min(-50).double()
    return {"x": strided(case, x), "k": case.k}


def _sorted_values(result: tuple[Tensor, Tensor]) -> Tensor:
    return result[0].sort(dim=1, descending=True).values


def _n_bytes(case: Case, itemsize: int) -> int:
    return case.n * (case.n_latents * itemsize + case.k * (itemsize + 8))


SPECS = (
    OpSpec(
        name="topk_rows",
        function=gradients.topk_rows,
        reference=reference.topk_rows,
        implementations=("torch", "triton"),
        make_inputs=_rows,
        differentiable=("x",),
        n_bytes=_n_bytes,
        canonical=_sorted_values,
        twice_differentiable=False,  # linear: its second derivative is zero and torch's own
        cases=_CASES,
    ),
)
