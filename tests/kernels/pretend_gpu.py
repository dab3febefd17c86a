"""A GPU that is not there: what a call would launch, hold and wait for, on tensors without numbers.

Tensors on torch's device "meta" have shapes and no memory, so shapes of any size can be walked
through. Every op of torch is noted as it passes; every launch of a Triton kernel is noted and left
out. That shows whether the host would have to wait for the device, how much memory is held at most,
how many launches a step takes, and with which arguments the kernels have to compile.

Not seen here: what torch's own CUDA kernels hold inside a call (the workspace of a sort), and time.
"""

import importlib
import pkgutil
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import saetools_kernels

__all__ = ["DEVICE", "Launch", "Trace", "pretend_gpu"]

DEVICE = torch.device("meta")
# Ops whose result, or its shape, the host has to read.
_WAITS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "bincount",
    "unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "equal",
    "is_nonzero",
    "allclose",
)


@dataclass(frozen=True)
class Launch:
    """One launch of a Triton kernel.

    Args:
        kernel: its name.
        grid: how many programs, by axis.
        signature: type of each argument, as Triton's compiler wants it.
        constants: compile-time arguments by name, those that Triton makes of a 1 included.
        divisible: names of the arguments known to be multiples of 16.
        options: warps and so on.
    """

    function: Any
    kernel: str
    grid: tuple[int, ...]
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    divisible: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def key(self) -> tuple[Any, ...]:
        """What decides the machine code."""
        parts = (self.signature, self.constants, self.options)
        return (self.kernel, self.divisible, *(tuple(sorted(p.items())) for p in parts))


@dataclass
class Trace:
    """What passed: `waits` in words, `ops` of torch that run on the device, launches, bytes."""

    launches: list[Launch] = field(default_factory=list)
    ops: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    held_bytes: int = 0
    peak_bytes: int = 0

    @property
    def n_launches(self) -> int:
        """Kernels that a call starts: ours, and one for each op of torch that is not a view."""
        return len(self.launches) + len(self.ops)


@contextmanager
def pretend_gpu() -> Iterator[Trace]:
    """Note what happens inside; kernels are chosen as they are for tensors on a GPU."""
    trace = Trace()
    with pytest.MonkeyPatch.context() as patch:
        _choose_triton(patch)
        patch.setattr("triton.runtime.jit.JITFunction.run", _noting(trace))
        with _Functions(trace), _Ops(trace):
            yield trace


def _choose_triton(patch: pytest.MonkeyPatch) -> None:
    """Make "auto" see a GPU in the device "meta"."""
    original = importlib.import_module("saetools_kernels._dispatch").choose

    def choose(op: str, *tensors: Tensor, has_triton: bool = True) -> str:
        if any(t.device != DEVICE for t in tensors):
            return str(original(op, *tensors, has_triton=has_triton))
        return "triton" if has_triton else "torch"

    for module in pkgutil.walk_packages(saetools_kernels.__path__, "saetools_kernels."):
        if module.name.rpartition(".")[2] in ("kernel", "spec", "reference"):
            continue
        found = importlib.import_module(module.name)
        if getattr(found, "choose", None) is original:
            patch.setattr(found, "choose", choose)


def _noting(trace: Trace) -> Callable[..., None]:
    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        assert not warmup
        given = dict(zip(self.arg_names, args, strict=False))
        given |= {name: kwargs.pop(name) for name in self.arg_names if name in kwargs}
        assert set(given) == set(self.arg_names), f"arguments of {self.__name__}"
        declared = {p.name for p in self.params if p.is_constexpr}
        signature = {name: _type(value) for name, value in given.items()}
        constants = {
            name: value
            for name, value in given.items()
            if name in declared or (isinstance(value, int) and value == 1)
        }
        signature |= dict.fromkeys(constants, "constexpr")
        divisible = tuple(n for n, v in given.items() if n not in constants and _divisible(v))
        assert all(g >= 0 for g in grid)
        trace.launches.append(
            Launch(self, self.__name__, tuple(grid), signature, constants, divisible, kwargs)
        )

    return run


def _type(value: Any) -> str:
    if isinstance(value, Tensor):
        assert value.device == DEVICE, "a kernel was given a tensor that is not on the device"
        names = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
        names |= {torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.bool: "i1"}
        return "*" + names[value.dtype]
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    return "fp32"


def _divisible(value: Any) -> bool:
    if isinstance(value, Tensor):  # torch's allocator begins at multiples of 512
        return value.storage_offset() * value.element_size() % 16 == 0
    return isinstance(value, int) and not isinstance(value, bool) and value % 16 == 0


class _Functions(TorchFunctionMode):
    """Sees tensors being made of numbers on the host, which never reaches the dispatcher."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        names = ("tensor", "as_tensor", "new_tensor")
        if getattr(func, "__name__", "") in names and not isinstance(args[-1], Tensor):
            device = kwargs.get("device") or (
                args[0].device if isinstance(args[0], Tensor) else torch.device("cpu")
            )
            if torch.device(device) == DEVICE:
                self.trace.waits.append(f"{func.__name__} copies numbers to the device")
        return func(*args, **kwargs)


class _Ops(TorchDispatchMode):
    """Sees every op: whether it waits, and the memory that it makes."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.known: dict[int, weakref.finalize[Any, Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        name = func.__name__.partition(".")[0]
        if not any(t.device == DEVICE for t in leaves):
            if name == "_to_copy" and kwargs.get("device") == DEVICE:
                self.trace.waits.append("_to_copy copies from the host to the device")
            out = func(*args, **kwargs)
            self._note_memory(out)
            return out
        self._note_memory(leaves, was_there=True)
        if name in _WAITS or (name in ("index", "index_put_") and _by_mask(args)):
            self.trace.waits.append(f"{name} reads {[tuple(t.shape) for t in leaves]}")
            raise AssertionError(f"the host waits for the device: {name}")
        others = [t for t in leaves if t.device != DEVICE and t.ndim > 0]
        if others:
            self.trace.waits.append(f"{name} mixes devices")
        if name in ("_to_copy", "copy_") and len({t.device for t in leaves}) > 1:
            self.trace.waits.append(f"{name} copies between host and device")
        out = func(*args, **kwargs)
        if name not in ("empty", "new_empty", "empty_like", "empty_strided") and not _views(func):
            self.trace.ops.append(name)
        self._note_memory(out)
        return out

    def _note_memory(self, out: Any, *, was_there: bool = False) -> None:
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.device == DEVICE:
                storage = leaf.untyped_storage()
                if id(storage) in self.known and self.known[id(storage)].alive:
                    continue
                size = 0 if was_there else storage.nbytes()
                self.known[id(storage)] = weakref.finalize(storage, self._freed, size)
                self.trace.held_bytes += size
                self.trace.peak_bytes = max(self.trace.peak_bytes, self.trace.held_bytes)

    def _freed(self, size: int) -> None:
        self.trace.held_bytes -= size


def _views(func: Any) -> bool:
    returned = [r.alias_info for r in func._schema.returns]
    return bool(returned) and all(a is not None and not a.is_write for a in returned)


def _by_mask(args: tuple[Any, ...]) -> bool:
    indices = [i for i in tree_leaves(args[1]) if isinstance(i, Tensor)]
    return any(i.dtype in (torch.bool, torch.uint8) for i in indices)
