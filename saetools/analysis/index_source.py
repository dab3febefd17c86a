"""The file behind a loaded index: what is large is read from it when it is asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from saetools.errors import FormatError

__all__ = ["IndexSource"]


@dataclass(frozen=True)
class IndexSource:
    """A file, and what it said it was made from when the index was loaded."""

    path: Path
    made_from: str

    @contextmanager
    def opened(self) -> Iterator[h5py.File]:
        """The file, open for reading.

        Raises:
            FormatError: it is gone or damaged, or is another index now.
        """
        try:
            with h5py.File(self.path, "r") as file:
                if str(file.attrs.get("made_from")) != self.made_from:
                    raise FormatError(
                        f"{self.path} is another index than the one that was loaded from it; load "
                        "it again"
                    )
                yield file
        except (OSError, KeyError) as error:
            raise FormatError(
                f"parts of the index lie in {self.path}, which cannot be read any more ({error}); "
                "put the file back, or index the SAE again"
            ) from error
