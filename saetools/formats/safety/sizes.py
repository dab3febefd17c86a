"""What every reader of foreign files asks first: is it a file, how long is it, does a shape fit."""

import math
from collections.abc import Sequence
from pathlib import Path

from saetools.errors import FormatError

__all__ = ["MAX_DIMENSIONS", "file_size", "is_shape", "n_bytes"]

MAX_DIMENSIONS = 8


def file_size(path: Path) -> int:
    """Length of a regular file in bytes.

    Raises:
        FormatError: there is no such file, or it is a folder, a device or a pipe.
    """
    if not path.is_file():
        raise FormatError(
            f"cannot read {path}: there is no such file; check the name, or fetch the file first"
        )
    return path.stat().st_size


def is_shape(value: object) -> bool:
    """Whether a header's entry is a shape: at most 8 whole numbers, none negative."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) <= MAX_DIMENSIONS
        and all(type(n) is int and n >= 0 for n in value)
    )


def n_bytes(shape: Sequence[int], itemsize: int) -> int:
    """Bytes of a dense array, in exact integers: no shape overflows."""
    return math.prod(shape) * itemsize
