"""Small tables of numbers on a device, copied there once: a copy makes the host wait for it."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["on_device"]


def on_device(
    numbers: Sequence[int] | Sequence[float], *, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The numbers as a tensor; the same one for the same numbers, so it must not be changed."""
    return _on_device(tuple(numbers), dtype, device)


@lru_cache(maxsize=256)
def _on_device(
    numbers: tuple[int | float, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device)
