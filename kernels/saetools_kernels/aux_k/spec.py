"""Spec of `aux_decode`, which is made of other ops."""

from typing import Any

import torch

from saetools_kernels import gradients
from saetools_kernels.aux_k import reference
from saetools_kernels.spec import Case, OpSpec, strided

__all__ = ["SPECS"]

_CASES = (
    Case("n0", n=0, d=8, n_latents=5, k=2),
    Case("n1", n=1, d=8, n_latents=5, k=2),
    Case("n31", n=31, d=27, n_latents=20, k=2),
    Case("d513", n=2, d=513, n_latents=6, k=2),
    Case("k1", n=5, d=16, n_latents=7, k=1),
    Case("strided", n=9, d=24, n_latents=10, k=4, pattern="strided"),
)


def _inputs(case: Case, generator: torch.Generator) -> dict[str, Any]:
    """List about half of the latents, in an order of their own, at least k."""
    listed = torch.randperm(case.n_latents, generator=generator)
    shapes = {
        "x": (case.n, case.d),
        "W_enc": (case.n_latents, case.d),
        "b_enc": (case.n_latents,),
        "W_dec": (case.n_latents, case.d),
    }
    drawn = {
        name: strided(case, torch.randn(shape, generator=generator, dtype=torch.float64))
        for name, shape in shapes.items()
    }
    return {**drawn, "latents": listed[: max(case.k, case.n_latents // 2)], "k": case.k}


def _n_bytes(case: Case, itemsize: int) -> int:
    rows = 2 * case.n + case.n_latents // 2 + 2 * case.n * case.k
    return rows * case.d * itemsize + 2 * case.n * (case.n_latents // 2) * itemsize


SPECS = (
    OpSpec(
        name="aux_decode",
        function=gradients.aux_decode,
        reference=reference.aux_decode,
        implementations=("torch", "triton"),
        make_inputs=_inputs,
        differentiable=("x", "W_enc", "b_enc", "W_dec"),
        n_bytes=_n_bytes,
        composed=True,
        cases=_CASES,
        dtypes=(torch.float32,),  # in 16 bits another latent may be chosen, which is no error
    ),
)
