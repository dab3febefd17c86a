"""NumPy archives of others: arrays of numbers only, never a pickled object, never a zip bomb.

Every member's .npy header is read by a pattern, not evaluated, and its shape compared with the
length that the archive states. Compressed members are allowed, but not to grow without measure.
"""

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats.safety.sizes import MAX_DIMENSIONS, file_size, n_bytes

__all__ = ["npz_shapes", "read_npz"]

# Weights hardly compress; a file that unpacks to more than this is not weights.
_MAX_GROWTH = 16
_SMALL = 2**20
_MAX_HEADER = 4096
_HEADER = re.compile(
    rb"\{'descr': '(?P<descr>[^']{1,8})', 'fortran_order': (?:False|True), "
    rb"'shape': \((?P<shape>[0-9, ]{0,200})\),? ?\} *\n"
)
# What zipfile, zlib and NumPy say of damaged archives.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, KeyError, NotImplementedError,
    RuntimeError,
)  # fmt: skip
_DTYPES = {"f2": 2, "f4": 4, "f8": 8, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "b1": 1}


def read_npz(path: str | Path) -> dict[str, Tensor]:
    """All arrays of an .npz file as CPU tensors in the dtypes they have.

    Raises:
        FormatError: it is no zip archive, unpacks to far more than it is, holds pickled objects or
            another dtype than plain numbers, or a shape does not fit the bytes it has.
    """
    path = Path(path)
    npz_shapes(path)
    try:
        with np.load(path, allow_pickle=False, max_header_size=_MAX_HEADER) as arrays:
            return {name: _tensor(arrays[name]) for name in arrays.files}
    except _DAMAGED as error:
        raise _damaged(path, error) from None


def npz_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Shape of every array, from the members' headers alone.

    Raises:
        FormatError: as `read_npz`.
    """
    path = Path(path)
    size = file_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_growth(path, archive, size)
            return {
                member.filename.removesuffix(".npy"): _checked_shape(path, archive, member)
                for member in archive.infolist()
            }
    except _DAMAGED as error:
        if isinstance(error, FormatError):
            raise
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> FormatError:
    return FormatError(f"cannot read {path} as .npz: {error!s:.300}; the file is damaged")


def _check_growth(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > _MAX_GROWTH * size + _SMALL:
        raise FormatError(
            f"{path} has {size} bytes and says it unpacks to {unpacked}; weights do not compress "
            "like that, so nothing of it was unpacked"
        )
    names = [member.filename for member in archive.infolist()]
    if len(set(names)) != len(names):
        raise FormatError(f"{path} has two members of one name; the file is damaged")


def _checked_shape(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[int, ...]:
    where = f"{path}: array '{member.filename.removesuffix('.npy'):.100}'"
    with archive.open(member) as file:
        text, start = _npy_header(file.read(12 + _MAX_HEADER), where)
    found = _HEADER.fullmatch(text)
    if found is None:
        raise FormatError(f"{where} has no header of a plain array: {text[:80]!r}; it is not read")
    descr = found["descr"].decode("latin-1")
    if "O" in descr:
        raise FormatError(
            f"{where} is a pickled object, which could run code when it is read; it is refused: "
            "ask for the weights as plain arrays"
        )
    itemsize = _DTYPES.get(descr[1:])
    if descr[:1] not in "<>|=" or itemsize is None:
        raise FormatError(
            f"{where} has dtype '{descr}'; weights are read as floats, integers or booleans: "
            "convert it first"
        )
    shape = [int(n) for n in found["shape"].replace(b" ", b"").split(b",") if n]
    if len(shape) > MAX_DIMENSIONS or n_bytes(shape, itemsize) != member.file_size - start:
        raise FormatError(
            f"{where} of shape {shape} and dtype '{descr}' needs {n_bytes(shape, itemsize)} bytes, "
            f"the archive has {member.file_size - start}; the file is damaged"
        )
    return tuple(shape)


def _npy_header(start: bytes, where: str) -> tuple[bytes, int]:
    """The header's text, and where the numbers begin."""
    if start[:6] != b"\x93NUMPY" or start[6:7] not in (b"\x01", b"\x02", b"\x03"):
        raise FormatError(f"{where} does not begin as a NumPy array; the file is damaged")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(start[8 : 8 + width], "little")
    begin = 8 + width
    if length > _MAX_HEADER or len(start) < begin + length:
        raise FormatError(f"{where} has a header of {length} bytes, which is cut off or too long")
    return start[begin : begin + length], begin + length


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
