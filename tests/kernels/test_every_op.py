"""Every op against its reference, on every shape, dtype and implementation that its spec names.

Without a GPU the Triton rows run in a process of their own (`test_interpreter.py`); where there
is one they run on CUDA tensors (`-m gpu`), and all else on the CPU.
"""

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from saetools_kernels import available, use_implementation
from saetools_kernels.spec import Case, OpSpec, all_specs

SPECS = all_specs()
INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
ON_GPU = available().ok and not INTERPRETING
RUNNABLE = ("torch", "triton") if available().ok else ("torch",)


def device_of(name: str) -> str:
    """Where an implementation wants its tensors."""
    return "cuda" if ON_GPU and name == "triton" else "cpu"


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.gpu] if device_of(name) == "cuda" else []


def affordable(name: str, case: Case, dtype: torch.dtype) -> bool:
    """Whether to run a case: the interpreter is slow, so it sees 16 bits on the small ones only."""
    if not INTERPRETING or name != "triton":
        return True
    small = case.n * case.k <= 20
    return case.n * case.n_latents <= 12_000 and (dtype == torch.float32 or small)


GRID = [
    pytest.param(
        *(spec, case, dtype, name),
        id=f"{name}-{spec.name}-{case.name}-{str(dtype)[6:]}",
        marks=marks(name),
    )
    for spec in SPECS.values()
    for case in spec.cases
    for dtype in spec.dtypes
    for name in spec.implementations
    if name in RUNNABLE and affordable(name, case, dtype)
]
BOTH = [
    pytest.param(spec, name, id=f"{name}-{spec.name}", marks=marks(name))
    for spec in SPECS.values()
    for name in spec.implementations
    if name in RUNNABLE
]
DIFFERENTIABLE = [spec for spec in SPECS.values() if spec.differentiable]
EACH = [pytest.param(spec, id=spec.name) for spec in SPECS.values()]


def draw(spec: OpSpec, case: Case, dtype: torch.dtype, *, device: str = "cpu") -> dict[str, Any]:
    """Return the arguments of a case, rounded to `dtype` (so every path sees the same numbers)."""
    arguments = spec.make_inputs(case, torch.Generator().manual_seed(0))
    return {name: _place(value, dtype, device) for name, value in arguments.items()}


def _place(value: Any, dtype: torch.dtype, device: str) -> Any:
    if not isinstance(value, Tensor):
        return value
    target = dtype if value.is_floating_point() else value.dtype
    # `to` keeps strides, so a non-contiguous case stays one.
    return value.to(device=device, dtype=target)


def outcome(spec: OpSpec, function: Any, arguments: dict[str, Any], dtype: torch.dtype) -> Any:
    """Return the result and each gradient, computed in `dtype`, as float64 by name."""
    cast = {
        name: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in arguments.items()
    }
    leaves = {name: cast[name].detach().requires_grad_() for name in spec.differentiable}
    result = spec.canonical(function(**{**cast, **leaves}))
    assert result.dtype == dtype
    if not leaves:
        return {"result": result.double()}
    weight = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
    weight = weight.half().to(device=result.device, dtype=dtype)
    grads = torch.autograd.grad(result, list(leaves.values()), weight)
    names = [f"gradient of {name}" for name in leaves]
    found = dict(zip(["result", *names], [result.detach(), *grads], strict=True))
    return {name: tensor.double() for name, tensor in found.items()}


@pytest.mark.parametrize(("spec", "case", "dtype", "name"), GRID)
def test_close_to_float64_as_plain_pytorch_is(
    spec: OpSpec, case: Case, dtype: torch.dtype, name: Any
) -> None:
    arguments = draw(spec, case, dtype, device=device_of(name))
    truth = outcome(spec, spec.reference, arguments, torch.float64)
    eager = outcome(spec, spec.reference, arguments, dtype)
    with use_implementation(name):
        fast = outcome(spec, spec.function, arguments, dtype)
    for what, exact in truth.items():
        assert fast[what].shape == exact.shape, what
        if exact.numel() == 0:
            continue
        scale = exact.abs().max() * torch.finfo(dtype).eps
        allowed = 2 * (eager[what] - exact).abs().max() + 4 * scale
        assert (fast[what] - exact).abs().max() <= allowed, what


@pytest.mark.parametrize(("spec", "name"), BOTH)
def test_two_runs_agree_to_the_last_bit(spec: OpSpec, name: Any) -> None:
    case = {case.name: case for case in spec.cases}.get("duplicates", spec.cases[-1])
    arguments = draw(spec, case, torch.float32, device=device_of(name))
    with use_implementation(name):
        first = outcome(spec, spec.function, arguments, torch.float32)
        second = outcome(spec, spec.function, arguments, torch.float32)
    assert all(torch.equal(first[what], second[what]) for what in first)


@pytest.mark.parametrize("spec", EACH)
def test_the_number_of_threads_does_not_change_a_bit(spec: OpSpec) -> None:
    case = Case("larger", n=257, d=65, n_latents=700, k=9)
    arguments = draw(spec, case, torch.float32)
    alone = outcome(spec, spec.function, arguments, torch.float32)
    torch.set_num_threads(2)  # the fixture sets it back
    shared = outcome(spec, spec.function, arguments, torch.float32)
    assert all(torch.equal(alone[what], shared[what]) for what in alone)


@pytest.mark.parametrize("spec", [pytest.param(s, id=s.name) for s in DIFFERENTIABLE])
@pytest.mark.parametrize("side", ["reference", "function"])
def test_gradients_are_the_derivatives(spec: OpSpec, side: str) -> None:
    case = next(case for case in spec.cases if case.name == "n1")
    arguments = draw(spec, case, torch.float64)
    function = getattr(spec, side)

    def of_leaves(*leaves: Tensor) -> Tensor:
        named = dict(zip(spec.differentiable, leaves, strict=True))
        return spec.canonical(function(**{**arguments, **named}))

    leaves = [arguments[name].clone().requires_grad_() for name in spec.differentiable]
    assert torch.autograd.gradcheck(of_leaves, leaves)
    if spec.twice_differentiable:
        assert torch.autograd.gradgradcheck(of_leaves, leaves)


@pytest.mark.parametrize("spec", [p for p in EACH if not p.values[0].composed])
def test_reference_can_be_chosen_by_name(spec: OpSpec) -> None:
    arguments = draw(spec, spec.cases[2], torch.float32)
    with use_implementation("reference"):
        chosen = spec.canonical(spec.function(**arguments))
    assert torch.equal(chosen, spec.canonical(spec.reference(**arguments)))


@pytest.mark.parametrize("spec", EACH)
def test_only_the_arguments_that_ask_get_a_gradient(spec: OpSpec) -> None:
    arguments = draw(spec, spec.cases[1], torch.float32)
    for name in spec.differentiable:
        leaf = arguments[name].detach().requires_grad_()
        spec.canonical(spec.function(**{**arguments, name: leaf})).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.shape == leaf.shape


def test_unwritten_memory_is_poisoned_here() -> None:
    assert torch.empty(64).isnan().all()
