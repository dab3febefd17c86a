"""Room on the disk, taken before HDF5 needs it.

Once a write has failed for want of room, HDF5 fails again at flush and close, or crashes the
process. So the blocks are given to the file first. That fails cleanly, when nothing is written yet.
"""

import errno
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from saetools.errors import StoreError

__all__ = ["bytes_of_rows", "room_for"]

_METADATA_BYTES = 65_536
_METADATA_BYTES_OF_A_DATASET = 16_384


@contextmanager
def room_for(file: h5py.File, n_bytes: int, *, what: str, then: str) -> Iterator[None]:
    """Within the block the file may grow by `n_bytes` and its metadata; afterwards it is cut.

    Raises:
        StoreError: there is no room; the message says how much is needed and free, `what` could
            not be done, and what to do `then`.
    """
    handle, end = file.id.get_vfd_handle(), file.id.get_filesize()
    try:
        _allocate(handle, end, n_bytes + _METADATA_BYTES)
    except OSError as error:
        os.ftruncate(handle, end)
        raise StoreError(
            f"could not {what} ({os.strerror(error.errno or 0)}): it takes up to "
            f"{n_bytes + _METADATA_BYTES:,} bytes, and the disk has "
            f"{shutil.disk_usage(Path(file.filename).parent).free:,} bytes free. {then}"
        ) from error
    yield
    os.ftruncate(handle, file.id.get_filesize())


def bytes_of_rows(datasets: Iterable[h5py.Dataset], start: int, stop: int) -> int:
    """Bytes of the chunks that rows `start` to `stop` begin, in all of the datasets."""
    total = 0
    for dataset in datasets:
        size = dataset.chunks[0]
        # A compressed chunk that grows moves to another place.
        moves = dataset.id.get_create_plist().get_nfilters() > 0
        first = start // size if moves else -(-start // size)
        n_chunks = -(-stop // size) - first
        total += n_chunks * math.prod(dataset.chunks) * dataset.dtype.itemsize
        total += _METADATA_BYTES_OF_A_DATASET
    return total


def _allocate(handle: int, start: int, n_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, start, n_bytes)
    else:
        there = os.fstatvfs(handle)
        if there.f_bavail * there.f_frsize < n_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
