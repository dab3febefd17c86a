"""The step of kernels/bench/steps.py; needs torch, and Triton on a GPU, and not saetools."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch
from sizes import Size, widths
from torch import Tensor

from bench.steps import fresh_state, our_step

VERSIONS = {"torch": torch.__version__}
try:
    VERSIONS["triton"] = version("triton")
except PackageNotFoundError:
    VERSIONS["triton"] = "missing"


def stepper(arch: str, size: Size, variant: str, sample: Tensor) -> Callable[[Tensor], None]:  # noqa: ARG001
    """A full training step, bfloat16 on a GPU; Matryoshka is over TopK here."""
    prefixes = widths(size.n_latents) if arch == "matryoshka" else [size.n_latents]
    edges = torch.tensor(prefixes[:-1], device=sample.device, dtype=torch.int64)
    state = fresh_state(size.d_in, size.n_latents, device=sample.device)

    def run(x: Tensor) -> None:
        our_step(state, x, k=size.k, widths=tuple(prefixes), edges=edges)

    return run
