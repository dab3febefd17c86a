"""Spec of `batch_topk`."""

from typing import Any

import torch

from saetools_kernels import gradients
from saetools_kernels.batch_topk import reference
from saetools_kernels.spec import Case, OpSpec
from saetools_kernels.threshold_rows.spec import listed, whole_numbers

__all__ = ["SPECS"]

_CASES = (
    Case("n0", n=0, d=1, n_latents=40, k=2),
    Case("n1", n=1, d=1, n_latents=5, k=3),
    Case("n31", n=31, d=1, n_latents=27, k=4),
    Case("k0", n=3, d=1, n_latents=6, k=0),
    Case("k1", n=5, d=1, n_latents=33, k=1),
    Case("k_all", n=4, d=1, n_latents=19, k=19),
    Case("groups", n=3, d=1, n_latents=2100, k=3),
    Case("strided", n=7, d=1, n_latents=130, k=4, pattern="strided"),
)


def _inputs(case: Case, generator: torch.Generator) -> dict[str, Any]:
    return {"x": whole_numbers(case, generator), "k": case.k}


def _n_bytes(case: Case, itemsize: int) -> int:
    return case.n * (case.n_latents * itemsize + case.k * (itemsize + 16))


SPECS = (
    OpSpec(
        name="batch_topk",
        function=gradients.batch_topk,
        reference=reference.batch_topk,
        implementations=("torch", "triton"),
        make_inputs=_inputs,
        differentiable=("x",),
        n_bytes=_n_bytes,
        canonical=listed,
        twice_differentiable=False,
        cases=_CASES,
    ),
)
