"""Shared by the kernel tests: one thread, and memory that is NaN until it is written."""

import os
from collections.abc import Iterator

import pytest
import torch

from saetools_kernels import use_implementation

# These tests make CPU tensors: the kernels take those in Triton's interpreter only.
INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
RUNNABLE = ("torch", "triton") if INTERPRETING else ("torch",)


@pytest.fixture(params=RUNNABLE)
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test once with every implementation that can run here."""
    with use_implementation(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Fill uninitialised tensors with NaN, as torch's deterministic mode does."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    n_threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
    torch.utils.deterministic.fill_uninitialized_memory = fill
    torch.use_deterministic_algorithms(deterministic)
