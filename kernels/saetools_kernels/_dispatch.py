"""Which implementation of an op runs: Triton, plain torch, or the reference.

The order of precedence is `use_implementation` (a context manager), then the environment variable
`SAETOOLS_KERNELS`, then "auto": Triton for CUDA tensors where Triton can run, else plain torch.
The environment is read at each call, never at import, and Triton is imported only to answer
whether it can run.
"""

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor

from saetools_kernels._errors import KernelInputError, KernelUnavailableError

__all__ = [
    "TRITON_DTYPES",
    "Availability",
    "Implementation",
    "available",
    "choose",
    "use_implementation",
]

Implementation = Literal["auto", "triton", "torch", "reference"]
TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
ENVIRONMENT_VARIABLE = "SAETOOLS_KERNELS"

_override: ContextVar[Implementation | None] = ContextVar("saetools_kernels", default=None)


class Availability(NamedTuple):
    """Whether the Triton kernels can run here, and the reason in one plain sentence."""

    ok: bool
    reason: str


def available() -> Availability:
    """Say whether Triton kernels can run in this process, and why.

    `TRITON_INTERPRET=1` counts as available: kernels then run in Triton's interpreter on CPU
    tensors, slowly, for tests. It has to be set before Triton is first imported.
    """
    if importlib.util.find_spec("triton") is None:
        return Availability(False, "Triton is not installed (it is published for Linux only)")
    if os.environ.get("TRITON_INTERPRET") == "1":
        if not _interpreting():
            return Availability(
                False,
                "TRITON_INTERPRET=1 was set after Triton had been imported; "
                "set it before Python starts",
            )
        return Availability(True, "Triton's interpreter runs the kernels on the CPU, for tests")
    if not torch.cuda.is_available():
        return Availability(False, "this process sees no CUDA device")
    return Availability(True, f"Triton can run on {torch.cuda.get_device_name()}")


def _interpreting() -> bool:
    """Tell whether the Triton in this process was imported in interpreter mode.

    Triton decides when it is imported: its own functions, `tl.sum` among them, then become either
    interpreted or compiled ones, and setting the variable later makes a broken mixture.
    """
    language = importlib.import_module("triton.language")
    return type(language.sum).__name__ == "InterpretedFunction"


@contextmanager
def use_implementation(name: Implementation) -> Iterator[None]:
    """Run every op inside the block with one implementation.

    "triton" applies to what a Triton kernel can take; `topk_rows` with a k above 512 keeps its
    torch path, as its docstring says. A backward pass uses the implementation of its forward pass,
    wherever it is called.

    Raises:
        KernelInputError: when the name is none of "auto", "triton", "torch" and "reference".
    """
    token = _override.set(_named(name, source="use_implementation"))
    try:
        yield
    finally:
        _override.reset(token)


def choose(op: str, *tensors: Tensor, has_triton: bool = True) -> Implementation:
    """Return "triton", "torch" or "reference" for a call of `op` on these float tensors.

    Raises:
        KernelUnavailableError: when "triton" was asked for by name and cannot run here.
        KernelInputError: when "triton" was asked for by name and does not take these dtypes.
    """
    asked = _override.get() or _named(
        os.environ.get(ENVIRONMENT_VARIABLE) or "auto", source=ENVIRONMENT_VARIABLE
    )
    if asked in ("torch", "reference"):
        return asked
    if not has_triton:
        return "torch"
    if asked == "triton":
        _require_triton(op, tensors)
        return "triton"
    on_cuda = all(t.is_cuda for t in tensors)
    fits = all(t.dtype in TRITON_DTYPES for t in tensors)
    return "triton" if on_cuda and fits and not _interpreted_env() and available().ok else "torch"


def _interpreted_env() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _require_triton(op: str, tensors: tuple[Tensor, ...]) -> None:
    state = available()
    if state.ok and not _interpreted_env() and not all(t.is_cuda for t in tensors):
        state = Availability(False, f"the tensors are on {tensors[0].device.type}, not on CUDA")
    if not state.ok:
        raise KernelUnavailableError(
            f"the Triton kernel of {op} was asked for and cannot run: {state.reason}. "
            f'Use the implementation "auto" or "torch", or run where Triton can.'
        )
    for tensor in tensors:
        if tensor.dtype not in TRITON_DTYPES:
            raise KernelInputError(
                f"{op}: the Triton kernel takes float32, float16 and bfloat16, got {tensor.dtype}. "
                f'Use the implementation "torch" for it.'
            )


def _named(name: str, *, source: str) -> Implementation:
    if name not in get_args(Implementation):
        known = ", ".join(get_args(Implementation))
        raise KernelInputError(f"{source}: no implementation named {name!r}. Known: {known}.")
    return cast(Implementation, name)
