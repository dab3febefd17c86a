"""The bytes of a file that nobody writes: read into memory that is there, or mapped.

Reading (`preadv`) is the faster one from a disk, and safe if the file shrinks; a mapping spares a
copy where the bytes are turned into another precision anyway.
"""

import mmap
import os
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.errors import StoreError

__all__ = ["RawFile"]


class RawFile:
    """A file, opened for reading by offset."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._release = weakref.finalize(self, os.close, self._descriptor)

    def read_into(self, out: npt.NDArray[Any], offset: int) -> None:
        """Fill `out`, which is contiguous, with the bytes from `offset` on."""
        left = out.reshape(-1).view(np.uint8).data
        while len(left):
            n_bytes = os.preadv(self._descriptor, [left], offset)
            if n_bytes == 0:
                raise StoreError(
                    f"{self.path} ends at byte {offset:,}, in the middle of rows that it should "
                    "hold: it was truncated while it was open; harvest it again"
                )
            left = left[n_bytes:]
            offset += n_bytes

    def view(self, offset: int, n_bytes: int) -> npt.NDArray[np.uint8]:
        """The bytes themselves, (n_bytes,); only to be read, and gone when the file is closed."""
        if hasattr(os, "posix_fadvise") and not self._is_cached(offset, n_bytes):
            # Else a cold disk is read page by page.
            os.posix_fadvise(self._descriptor, offset, n_bytes, os.POSIX_FADV_WILLNEED)
        return self._mapped[offset : offset + n_bytes]

    def close(self) -> None:
        """Close the file."""
        self._release()

    def _is_cached(self, offset: int, n_bytes: int) -> bool:
        """Whether the first and last of these bytes are in memory, as far as the system tells.

        To advise a whole range that is there costs half as much as turning it into float32.
        """
        if not hasattr(os, "RWF_NOWAIT"):
            return False
        byte = bytearray(1)
        try:
            return all(
                os.preadv(self._descriptor, [byte], at, os.RWF_NOWAIT) == 1
                for at in (offset, offset + n_bytes - 1)
            )
        except OSError:  # not in memory, or a file system that cannot say
            return False

    @cached_property
    def _mapped(self) -> npt.NDArray[np.uint8]:
        mapped = np.frombuffer(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ), np.uint8)
        return np.asarray(_Shown(mapped))


class _Shown:
    """Bytes that torch takes without a warning: it has no tensors that may only be read."""

    def __init__(self, array: npt.NDArray[np.uint8]) -> None:
        self._array = array  # keeps the mapping
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}
