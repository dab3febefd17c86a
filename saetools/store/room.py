"""What is said when a store or an index cannot be written, most often because the disk is full."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saetools.errors import StoreError

__all__ = ["told"]


@contextmanager
def told(path: Path, n_bytes: int | None, *, what: str, then: str) -> Iterator[None]:
    """Within the block a file is written; a failure says how many bytes that takes, if known.

    Raises:
        StoreError: it failed; the message says how much is needed and free, `what` could not be
            done, and what to do `then`.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        free = shutil.disk_usage(path.absolute().parent).free
        takes = "" if n_bytes is None else f"it takes up to {n_bytes:,} bytes, and "
        raise StoreError(
            f"could not {what} ({os.strerror(error.errno or 0)}): {takes}the disk has {free:,} "
            f"bytes free. {then}"
        ) from error
