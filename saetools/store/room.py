"""What is said when a store cannot be written, most often because the disk is full."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saetools.errors import StoreError

__all__ = ["told"]


@contextmanager
def told(path: Path, n_bytes: int, *, what: str, then: str) -> Iterator[None]:
    """Within the block a file is written; a failure says how many bytes that takes.

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
        raise StoreError(
            f"could not {what} ({os.strerror(error.errno or 0)}): it takes up to {n_bytes:,} bytes,"
            f" and the disk has {free:,} bytes free. {then}"
        ) from error
