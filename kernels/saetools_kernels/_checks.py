"""Checks on the tensors an op is given; every failure names the argument, what it got and wants.

Values of index tensors are checked on the CPU, where it costs a fraction of a millisecond. On a
GPU the same check would stop the queue, so there an index out of range is the caller's to prevent.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from saetools_kernels._errors import KernelInputError

__all__ = [
    "accumulator_dtype",
    "check_floats",
    "check_indices",
    "check_offsets",
    "check_out",
    "check_shape",
]

_INDEX_DTYPES = (torch.int64, torch.int32)


def check_floats(op: str, *, device: torch.device, **tensors: Tensor) -> None:
    """Require floating point tensors on `device`."""
    for name, tensor in tensors.items():
        _check_device(op, name, tensor, device)
        if not tensor.is_floating_point():
            raise KernelInputError(
                f"{op}: {name} is {tensor.dtype}; it must be floating point. Convert it first."
            )


def check_shape(op: str, name: str, tensor: Tensor, wanted: Mapping[str, int | None]) -> None:
    """Require one axis for each entry of `wanted`: a dimension's name, and its size unless None."""
    sizes = tuple(wanted.values())
    fits = tensor.ndim == len(sizes) and all(
        want is None or got == want for got, want in zip(tensor.shape, sizes, strict=True)
    )
    if not fits:
        text = ", ".join(dim if size is None else f"{dim}={size}" for dim, size in wanted.items())
        raise KernelInputError(f"{op}: {name} has shape {tuple(tensor.shape)}; wanted ({text}).")


def check_indices(op: str, name: str, tensor: Tensor, *, device: torch.device, size: int) -> None:
    """Require integer indices in [0, size)."""
    _check_integers(op, name, tensor, device)
    if tensor.numel() == 0 or tensor.device.type != "cpu":
        return
    low, high = (int(bound) for bound in torch.aminmax(tensor))
    if low < 0 or high >= size:
        bad = low if low < 0 else high
        raise KernelInputError(
            f"{op}: {name} holds {bad}; every index must be at least 0 and below {size}. "
            f"An empty slot takes value 0 and any index in that range."
        )


def check_offsets(
    op: str, name: str, offsets: Tensor, *, device: torch.device, n_entries: int
) -> None:
    """Require bag boundaries: one axis, from 0 to `n_entries`, never decreasing."""
    _check_integers(op, name, offsets, device)
    if offsets.ndim != 1 or len(offsets) == 0:
        raise KernelInputError(
            f"{op}: {name} has shape {tuple(offsets.shape)}; wanted (n_bags + 1)."
        )
    if offsets.device.type != "cpu":
        return
    first, last = int(offsets[0]), int(offsets[-1])
    if first != 0 or last != n_entries or bool((offsets[1:] < offsets[:-1]).any()):
        raise KernelInputError(
            f"{op}: {name} runs from {first} to {last}; it must start at 0, never decrease and "
            f"end at the number of entries, {n_entries}."
        )


def check_out(
    op: str,
    out: Tensor | None,
    *,
    shape: tuple[int, ...],
    dtype: torch.dtype | None,
    device: torch.device,
    name: str = "out",
) -> None:
    """Require an output buffer, if given, to be contiguous, of this shape, dtype and device.

    A dtype of None stands for any floating one.
    """
    if out is None:
        return
    _check_device(op, name, out, device)
    dtype = out.dtype if dtype is None and out.is_floating_point() else dtype
    if tuple(out.shape) != shape or out.dtype != dtype or not out.is_contiguous():
        raise KernelInputError(
            f"{op}: {name} has shape {tuple(out.shape)}, dtype {out.dtype}; "
            f"wanted a contiguous {shape} of {dtype or 'a floating dtype'}."
        )


def accumulator_dtype(*tensors: Tensor) -> torch.dtype:
    """Return float64 when any tensor is float64, else float32: sums are never kept in 16 bits."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _check_integers(op: str, name: str, tensor: Tensor, device: torch.device) -> None:
    _check_device(op, name, tensor, device)
    if tensor.dtype not in _INDEX_DTYPES:
        raise KernelInputError(f"{op}: {name} is {tensor.dtype}; wanted int64 or int32.")


def _check_device(op: str, name: str, tensor: Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise KernelInputError(
            f"{op}: {name} is on {tensor.device}; the other tensors are on {device}. Move it."
        )
