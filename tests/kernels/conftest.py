"""Shared by the kernel tests: where tensors lie, one thread, memory that is NaN until written."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from saetools_kernels import available, use_implementation

# Triton's kernels run on CUDA tensors where there is a GPU, and on CPU tensors in its interpreter.
ON_GPU = available().ok and os.environ.get("TRITON_INTERPRET") != "1"
TRITON = pytest.param("triton", marks=[pytest.mark.gpu] if ON_GPU else [])
# cuBLAS asks for a workspace of its own before it promises the same bits twice.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(params=["torch", TRITON] if available().ok else ["torch"])
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test once with every implementation that can run here."""
    with use_implementation(request.param):
        yield request.param


@pytest.fixture
def device(implementation: str) -> torch.device:
    """Where the implementation under test wants its tensors."""
    return torch.device("cuda" if ON_GPU and implementation == "triton" else "cpu")


@pytest.fixture
def place(device: torch.device) -> Callable[[Any], Any]:
    """Move a tensor, or every tensor in a dict or tuple, to where the implementation wants it."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        if isinstance(value, dict):
            return {name: moved(part) for name, part in value.items()}
        if isinstance(value, tuple):
            parts = [moved(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        return value

    return moved


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Fill uninitialised tensors with NaN, as torch's deterministic mode does."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    n_threads = torch.get_num_threads()
    # On a GPU some references have no deterministic form (a sum in torch's own indexing, say).
    torch.use_deterministic_algorithms(True, warn_only=ON_GPU)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
    torch.utils.deterministic.fill_uninitialized_memory = fill
    torch.use_deterministic_algorithms(deterministic)
