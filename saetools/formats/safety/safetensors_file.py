"""Safetensors of others: the header is checked against the file's length before anything is loaded.

The layout: 8 bytes with the header's length, the header (JSON: name -> dtype, shape, data_offsets),
then the tensors' bytes without gap or overlap.
"""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats.safety.sizes import file_size, is_shape, n_bytes
from saetools.formats.safety.text import parse_json

__all__ = ["read_safetensors", "safetensors_shapes"]

_MAX_HEADER = 100 * 2**20
_ITEMSIZE = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU and in the dtypes it has.

    Raises:
        FormatError: the header is truncated, not JSON, or does not fit the bytes behind it, or a
            dtype is none of floats, integers and booleans.
    """
    path = Path(path)
    safetensors_shapes(path)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(f"cannot read the tensors of {path}: {error!s:.300}") from None
    return tensors


def safetensors_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor, from the header alone; checked against the length of the file.

    Raises:
        FormatError: as `read_safetensors`.
    """
    path = Path(path)
    header, n_data = _header(path)
    spans: list[tuple[int, int, str]] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape, begin, end = _entry(path, name, entry)
        spans.append((begin, end, name))
        shapes[name] = shape
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            raise FormatError(
                f"{path}: tensor '{name:.100}' begins at byte {begin} of the data, where {at} was "
                "due; tensors overlap or leave a gap, so the file is damaged"
            )
        at = end
    if at != n_data:
        raise FormatError(
            f"{path} is truncated or padded: its header describes {at} bytes of tensors, the file "
            f"has {n_data}; fetch it again"
        )
    return shapes


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, and the number of bytes behind it."""
    size = file_size(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise FormatError(
                f"{path} is truncated or no safetensors file: its header should take {length} "
                f"bytes, and the file has {size} in all; fetch it again"
            )
        if length > _MAX_HEADER:
            raise FormatError(
                f"{path}: a header of {length} bytes is more than safetensors allows "
                f"({_MAX_HEADER}); the file is damaged"
            )
        text = file.read(length)
    return parse_json(text, where=f"the header of {path}"), size - 8 - length


def _entry(path: Path, name: str, entry: Any) -> tuple[tuple[int, ...], int, int]:
    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not is_shape(shape) or not is_shape(offsets) or len(offsets) != 2:
        raise FormatError(
            f"{path}: the header gives tensor '{name:.100}' the shape {shape!r:.80} and the "
            f"offsets {offsets!r:.80}; whole numbers from 0 were expected, so the file is damaged"
        )
    itemsize = _ITEMSIZE.get(dtype) if isinstance(dtype, str) else None
    if itemsize is None:
        raise FormatError(
            f"{path}: tensor '{name:.100}' has dtype {dtype!r:.40}; weights are read in one of "
            f"{', '.join(_ITEMSIZE)}: convert it first"
        )
    begin, end = offsets
    if n_bytes(shape, itemsize) != end - begin:
        raise FormatError(
            f"{path}: tensor '{name:.100}' of shape {list(shape)} and dtype {dtype} needs "
            f"{n_bytes(shape, itemsize)} bytes, the header gives it {end - begin}; "
            "the file is damaged"
        )
    return tuple(shape), begin, end
