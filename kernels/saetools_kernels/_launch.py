"""How Triton kernels are loaded and launched: block sizes, the device, the rule for offsets.

Rules for every kernel of this package:

- row numbers become int64 before they are multiplied: a decoder of 2**31 elements is ordinary;
- every load is masked with an explicit `other` and made float32 at once (in the interpreter,
  arithmetic on bfloat16 is silently wrong), and sums are kept in float32;
- every element of the output is written, so outputs start uninitialised;
- a loop whose bounds come from memory is a `while`, and the width D is a compile-time constant (an
  SAE has one): Triton 3.6's interpreter refuses `range` over anything else.
"""

import importlib
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType

import torch
from torch import Tensor

__all__ = ["COMPILE_OPTIONS", "column_block", "entry_block", "load_kernel", "on_device_of"]

# Fused multiply-add is asked for by name: Triton 3.10 turns its default off.
COMPILE_OPTIONS: dict[str, int | bool] = {"num_warps": 4, "enable_fp_fusion": True}

_MAX_COLUMNS = 256
_MAX_ENTRIES = 16


def load_kernel(op: str) -> ModuleType:
    """Import the Triton file of an op; here and not at import, since not every machine has it."""
    return importlib.import_module(f"saetools_kernels.{op}.kernel")


def column_block(d: int) -> int:
    """Return how many columns a program holds: a power of two, at most 256, at least 16."""
    return max(16, min(_MAX_COLUMNS, 1 << (d - 1).bit_length()))


def entry_block(n_entries: int) -> int:
    """Return how many rows a program gathers at once: a power of two from 2 to 16."""
    return max(2, min(_MAX_ENTRIES, 1 << (max(1, n_entries) - 1).bit_length()))


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Make the tensor's device the current one; Triton launches on the current device."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
