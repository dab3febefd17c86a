"""A folder written whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saetools.errors import FormatError

__all__ = ["whole_folder"]


@contextmanager
def whole_folder(folder: str | Path, *, mark: str, what: str) -> Iterator[Path]:
    """Fill an empty folder beside `folder`; at the end of the block it takes its place.

    If the block fails, what was there stays as it was.

    Args:
        folder: where the result goes. One of the same kind is replaced, anything else refused.
        mark: a file that tells a folder of this kind.
        what: the kind in words, with its article, e.g. "an SAE".

    Raises:
        FormatError: the folder holds other files.
    """
    folder = Path(folder)
    if folder.exists() and not (
        folder.is_dir() and ((folder / mark).exists() or not any(folder.iterdir()))
    ):
        raise FormatError(
            f"will not save {what} over {folder}: it holds other files and no {mark}; choose an "
            "empty or new folder"
        )
    scratch, old = (folder.with_name(folder.name + end) for end in (".partial", ".old"))
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        scratch.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
