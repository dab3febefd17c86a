"""Rows of a dataset straight from the file, by the offsets of its chunks.

HDF5's own path reads unfiltered chunks at about half the speed of the disk cache. The chunks are
plain rows, so their offsets are asked for once and the bytes are taken from there. Where that is
not possible (a filter, a chunk that was never written, another byte order, a system without
`preadv`) rows come through HDF5, and are the same.
"""

import math
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from saetools.errors import StoreError
from saetools.store.rawfile import RawFile

__all__ = ["DatasetRows", "JoinedRows"]

_MOST_BYTES = 1 << 30  # of one read; Linux gives no more than 2 GiB


class DatasetRows:
    """Rows of one dataset of a file that nobody writes.

    Args:
        dataset: chunked by rows, or not.
        raw: the file that it is in.
        n_rows: rows that count; what lies behind them is never read.
    """

    def __init__(self, dataset: h5py.Dataset, raw: RawFile, *, n_rows: int) -> None:
        self._dataset = dataset
        self._raw = raw
        self.n_rows = n_rows
        self.dtype: np.dtype[Any] = dataset.dtype
        self.row_shape: tuple[int, ...] = tuple(dataset.shape[1:])
        # Asked of HDF5 once, not at every read: its answers cost a fifth of the speed.
        self._chunks: tuple[int, ...] | None = dataset.chunks
        self._row_bytes = math.prod(self.row_shape) * int(self.dtype.itemsize)
        self._chunk_rows = self._chunks[0] if self._chunks else 0
        self._chunk_bytes = self._chunk_rows * self._row_bytes

    @cached_property
    def direct(self) -> bool:
        """Whether rows are read by chunk offset."""
        return len(self._offsets) > 0

    def read_into(self, out: npt.NDArray[Any], start: int) -> None:
        """Fill `out` (n, ...) with the rows from `start` on; `out` is contiguous."""
        stop = start + len(out)
        if len(out) == 0:
            return
        self._check_open()
        if not self.direct:
            self._dataset.read_direct(out, np.s_[start:stop])
            return
        row = start
        while row < stop:
            offset, end = self._run(row, stop)
            part = out[row - start : end - start]
            if offset < 0:
                self._dataset.read_direct(part, np.s_[row:end])
            else:
                self._raw.read_into(part, offset)
            row = end

    def view(self, start: int, stop: int) -> npt.NDArray[Any] | None:
        """Rows `start` to `stop` (excluded) as they are in the file, only to be read.

        None where they are not in one piece, or not known to be; `read_into` has them then.
        """
        if not self.direct or start >= stop:
            return None
        self._check_open()
        offset, end = self._run(start, stop)
        if offset < 0 or end < stop or offset % self.dtype.itemsize:
            return None
        shown = self._raw.view(offset, (stop - start) * self._row_bytes)
        return shown.view(self.dtype).reshape(stop - start, *self.row_shape)

    def _run(self, row: int, stop: int) -> tuple[int, int]:
        """Where `row` is in the file, -1 if unknown, and up to which row what follows is there."""
        size, offsets = self._chunk_rows, self._offsets
        chunk = last = row // size
        while (
            (last + 1) * size < stop
            and (last + 1 - chunk) * self._chunk_bytes < _MOST_BYTES
            and offsets[last + 1] == offsets[last] + self._chunk_bytes
        ):
            last += 1
        offset = int(offsets[chunk])
        if offset >= 0:
            offset += (row - chunk * size) * self._row_bytes
        return offset, min((last + 1) * size, stop)

    def _check_open(self) -> None:
        if not self._dataset:  # its descriptor may by now be that of another file
            raise StoreError(f"{self._raw.path} was closed; open it again to read from it")

    @cached_property
    def _offsets(self) -> npt.NDArray[np.int64]:
        """Where each chunk is in the file, -1 where HDF5 must be asked; empty if none is known."""
        none = np.zeros(0, np.int64)
        data, chunks = self._dataset, self._chunks
        if chunks is None or self.n_rows == 0:
            return none
        if chunks[1:] != data.shape[1:] or not self.dtype.isnative or not hasattr(os, "preadv"):
            return none
        if data.id.get_create_plist().get_nfilters() or not hasattr(data.id, "chunk_iter"):
            return none
        n_chunks = -(-self.n_rows // chunks[0])
        offsets = np.full(n_chunks, -1, np.int64)

        def note(chunk: Any) -> None:
            index = chunk.chunk_offset[0] // chunks[0]
            if index < n_chunks and chunk.byte_offset is not None:
                offsets[index] = chunk.byte_offset

        data.id.chunk_iter(note)
        return offsets


class JoinedRows:
    """The rows of several datasets, one after the other."""

    def __init__(self, parts: "Sequence[DatasetRows | JoinedRows]") -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(part.n_rows for part in self._parts)])
        self.n_rows: int = int(self._starts[-1])
        self.dtype: np.dtype[Any] = self._parts[0].dtype
        self.row_shape: tuple[int, ...] = self._parts[0].row_shape

    @property
    def direct(self) -> bool:
        """Whether all rows are read by chunk offset."""
        return all(part.direct for part in self._parts if part.n_rows)

    def read_into(self, out: npt.NDArray[Any], start: int) -> None:
        """Fill `out` (n, ...) with the rows from `start` on."""
        stop = start + len(out)
        for part, first in zip(self._parts, self._starts.tolist(), strict=False):
            begin, end = max(start, first), min(stop, first + part.n_rows)
            if begin < end:
                part.read_into(out[begin - start : end - start], begin - first)

    def view(self, start: int, stop: int) -> npt.NDArray[Any] | None:
        """Rows `start` to `stop` (excluded) as they are in one file; None if that cannot be."""
        place = int(np.searchsorted(self._starts, start, side="right")) - 1
        if start >= stop:
            return None
        first, end = (int(row) for row in self._starts[place : place + 2])
        return self._parts[place].view(start - first, stop - first) if stop <= end else None
