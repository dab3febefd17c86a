"""Tensors out of files that somebody else wrote: all there, numbers, and of shapes that agree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from saetools.errors import FormatError

__all__ = ["Shapes", "fitting"]

Shapes = Mapping[str, tuple[str, ...]]
"""The dimensions of each tensor by name; the same name stands for the same size everywhere."""


def fitting(held: Mapping[str, Any], shapes: Shapes, *, where: Path) -> dict[str, Tensor]:
    """The tensors that `shapes` names, of which every dimension was compared.

    >>> import torch
    >>> found = fitting({"b": torch.ones(3)}, {"b": ("n_latents",)}, where=Path("x"))

    Raises:
        FormatError: one is missing, no tensor, or does not fit the others; the message says which.
    """
    missing = [name for name in shapes if not isinstance(held.get(name), Tensor)]
    if missing:
        raise FormatError(
            f"{where} should hold the tensors {', '.join(shapes)}; {', '.join(missing)} missing "
            f"(found: {', '.join(sorted(map(str, held))[:20]) or 'none'}); the file is damaged or "
            "of another format"
        )
    sizes: dict[str, int] = {}
    for name, dims in shapes.items():
        found = tuple(held[name].shape)
        wanted = tuple(sizes.get(dim, -1) for dim in dims)
        agrees = len(found) == len(dims) and all(
            size in (-1, own) for size, own in zip(wanted, found, strict=True)
        )
        if not agrees or held[name].is_complex():
            spelled = ", ".join(
                dim if size == -1 else f"{dim} = {size}"
                for dim, size in zip(dims, wanted, strict=True)
            )
            raise FormatError(
                f"{where}: {name} should have the shape ({spelled}), and holds {found} numbers of "
                f"{held[name].dtype}; the file is damaged or of another format"
            )
        sizes |= dict(zip(dims, found, strict=True))
    return {name: held[name] for name in shapes}
