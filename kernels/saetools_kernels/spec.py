"""What an op promises, in a form that tests and benchmarks can walk through.

Every op folder has a `spec.py` with a tuple `SPECS`; `all_specs` finds them, so a new folder is
tested and measured without another list to edit. A spec holds no tolerance: the rule is the same
for all ops and lives in the tests.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["CASES", "Case", "OpSpec", "all_specs", "draw_entries", "strided"]

Pattern = Literal["random", "equal", "duplicates", "strided", "padded"]


@dataclass(frozen=True)
class Case:
    """One shape to run an op at.

    Args:
        name: shown in test ids.
        n: tokens.
        d: width of a row.
        n_latents: size of the dictionary.
        k: entries a token.
        pattern: how indices are drawn and tensors lie in memory; "padded" empties a third of the
            slots, "strided" makes every tensor non-contiguous.
    """

    name: str
    n: int
    d: int
    n_latents: int
    k: int
    pattern: Pattern = "random"


CASES = (
    Case("n0", n=0, d=8, n_latents=5, k=2),
    Case("n1", n=1, d=8, n_latents=5, k=3),
    Case("n63", n=63, d=27, n_latents=20, k=2),
    Case("d513", n=2, d=513, n_latents=4, k=2),
    Case("k1", n=5, d=16, n_latents=7, k=1),
    Case("k_all", n=4, d=12, n_latents=19, k=19),
    Case("equal", n=6, d=33, n_latents=9, k=3, pattern="equal"),
    Case("duplicates", n=7, d=20, n_latents=6, k=5, pattern="duplicates"),
    Case("strided", n=9, d=24, n_latents=10, k=4, pattern="strided"),
    Case("padded", n=9, d=24, n_latents=10, k=4, pattern="padded"),
)


@dataclass(frozen=True)
class OpSpec:
    """An op, its truth, and inputs to compare them on.

    Args:
        name: public name of the op.
        function: the differentiable op.
        reference: plain PyTorch that reads like the definition; takes the same arguments.
        implementations: what exists besides the reference: "torch", and "triton" where it does.
        make_inputs: arguments by name for a case, float64 tensors on the CPU.
        differentiable: names of the arguments that get a gradient; may be empty.
        n_bytes: bytes that have to move at a case, given bytes per element; a lower bound.
        canonical: makes one comparable tensor of a result, whose order may be open.
        twice_differentiable: whether second derivatives exist and are not torch's own.
        composed: the op is made of other ops and has no path of its own.
        cases: shapes to test.
        dtypes: floating dtypes to test.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    implementations: tuple[Literal["torch", "triton"], ...]
    make_inputs: Callable[[Case, torch.Generator], dict[str, Any]]
    differentiable: tuple[str, ...]
    n_bytes: Callable[[Case, int], int]
    canonical: Callable[[Any], Tensor] = lambda result: result
    twice_differentiable: bool = True
    composed: bool = False
    cases: tuple[Case, ...] = CASES
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float16, torch.bfloat16)


def all_specs() -> Mapping[str, OpSpec]:
    """Return the spec of every op by name, found by looking for `<op>/spec.py`."""
    package = __name__.rpartition(".")[0]
    specs: dict[str, OpSpec] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        name = f"{package}.{module.name}.spec"
        if module.ispkg and importlib.util.find_spec(name) is not None:
            specs.update({spec.name: spec for spec in importlib.import_module(name).SPECS})
    return specs


def draw_entries(case: Case, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw values and indices of shape (n, k) as the case's pattern says."""
    shape = (case.n, case.k)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    if case.pattern == "equal":
        return values, torch.full(shape, case.n_latents - 1)
    if case.pattern == "duplicates":
        return values, torch.randint(0, 2, shape, generator=generator)
    scores = torch.rand(case.n, case.n_latents, generator=generator)
    indices = scores.argsort(1)[:, : case.k].contiguous()  # without repetition in a row
    if case.pattern == "padded":
        values = values * (torch.rand(shape, generator=generator) > 1 / 3)
    return values, indices


def strided(case: Case, tensor: Tensor) -> Tensor:
    """Return the same numbers, lying apart in memory where the case's pattern is "strided"."""
    if case.pattern != "strided":
        return tensor
    apart = tensor.new_zeros(*tensor.shape, 2)
    apart[..., 0] = tensor
    return apart[..., 0]
