"""Checksums of blocks of rows, so that a flipped byte is found and its rows are named.

A block is 4096 rows of one dataset, as they are before any filter. Its CRC-32 is written when the
block is full; that of the last, shorter block when the store is finished. So the checksums are a
function of the rows alone, and a resumed harvest has the same ones as one that was not stopped.
"""

import zlib
from collections.abc import Sequence

import h5py
import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_ROWS", "Checksums", "checksum_path", "crc32", "has_checksums"]

BLOCK_ROWS = 4096


def checksum_path(dataset: str) -> str:
    """Where the checksums of a dataset are."""
    return f"checksums/{dataset}"


def has_checksums(file: h5py.File, dataset: str) -> bool:
    """Whether a file has checksums for a dataset."""
    return checksum_path(dataset) in file


def crc32(rows: npt.NDArray[np.generic], value: int = 0) -> int:
    """CRC-32 of the bytes of `rows`, going on from `value`."""
    if rows.size == 0:
        return value
    flat = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
    return zlib.crc32(flat.data, value)


class Checksums:
    """The checksums of one dataset while it is being written."""

    def __init__(self, file: h5py.File, dataset: str) -> None:
        self._file = file
        self._dataset = dataset
        self._n_rows = 0
        self._value = 0

    @classmethod
    def create(cls, file: h5py.File, datasets: Sequence[str]) -> None:
        """Create the empty checksum datasets of a new store."""
        for dataset in datasets:
            file.create_dataset(
                checksum_path(dataset), (0,), maxshape=(None,), chunks=(1024,), dtype=np.uint32
            )
        file["checksums"].attrs["block_rows"] = BLOCK_ROWS

    def go_on_from(self, n_rows: int) -> None:
        """Forget what lies behind `n_rows` rows, and take up the block that they end in."""
        n_full = n_rows // BLOCK_ROWS
        self._resize(n_full)
        self._n_rows = n_rows
        self._value = crc32(self._file[self._dataset][n_full * BLOCK_ROWS : n_rows])

    def add(self, rows: npt.NDArray[np.generic]) -> None:
        """Take in rows that were appended to the dataset."""
        full: list[int] = []
        first = self._n_rows // BLOCK_ROWS
        start = 0
        while start < len(rows):
            room = BLOCK_ROWS - self._n_rows % BLOCK_ROWS
            part = rows[start : start + room]
            self._value = crc32(part, self._value)
            self._n_rows += len(part)
            start += len(part)
            if self._n_rows % BLOCK_ROWS == 0:
                full.append(self._value)
                self._value = 0
        self._write(first, full)

    def finish(self) -> None:
        """Write the checksum of the last block if it is not full."""
        if self._n_rows % BLOCK_ROWS:
            self._write(self._n_rows // BLOCK_ROWS, [self._value])

    def _write(self, first: int, values: list[int]) -> None:
        if values:
            self._resize(first + len(values))
            self._file[checksum_path(self._dataset)][first:] = np.array(values, np.uint32)

    def _resize(self, n_blocks: int) -> None:
        dataset = self._file[checksum_path(self._dataset)]
        if len(dataset) != n_blocks:
            dataset.resize(n_blocks, axis=0)
