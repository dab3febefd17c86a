"""The rows of one hook as tensors: read, put into the precision that is asked for, or picked."""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.store.chunks import DatasetRows, JoinedRows
from saetools.store.schema import DiskRows, from_disk, torch_dtype

__all__ = ["HookRows"]

_BLOCK_ROWS = 4096  # rows on their way to another precision: a chunk at a time
_MOST_RUNS = 32  # of kept rows in a chunk; with more, reading all of it and picking is faster

Rows = DatasetRows | JoinedRows


class HookRows:
    """Reads the rows of a hook.

    Args:
        array: the dataset of activations.
        scales: int8 only.
        dtype: precision on disk.
    """

    def __init__(self, array: Rows, scales: Rows | None = None, *, dtype: str) -> None:
        self._array = array
        self._scales = scales
        self._disk_dtype = dtype
        self._scratch = threading.local()
        self.dtype: torch.dtype = torch_dtype(dtype)
        self.width: int = array.row_shape[0]

    def floats(self, start: int, stop: int) -> Float[Tensor, "n d_in"]:
        """Rows `start` to `stop` (excluded) in float32."""
        out = torch.empty(stop - start, self.width)
        self.read(out, start)
        return out

    def read(self, out: Tensor, start: int) -> None:
        """Fill `out` (n, d_in), float32 or of `dtype`, with the rows from `start` on."""
        if out.dtype == self.dtype and self._scales is None:
            self._array.read_into(_as_numpy(out), start)
            return
        # Sizes are asked once: each question to a tensor or to HDF5 costs a hundredth of a chunk.
        begin, n_rows = 0, out.shape[0]
        while begin < n_rows:
            # Up to the end of a chunk, where the next one may be anywhere.
            n = min(_BLOCK_ROWS - (start + begin) % _BLOCK_ROWS, n_rows - begin)
            part = out if n == n_rows else out[begin : begin + n]
            disk = self._disk_rows(start + begin, n)
            begin += n
            if disk.scales is None:
                part.copy_(from_disk(disk, self._disk_dtype))
            else:
                torch.mul(
                    torch.from_numpy(disk.array),
                    torch.from_numpy(disk.scales).unsqueeze(1),
                    out=part,
                )

    def read_kept(self, out: Tensor, start: int, kept: npt.NDArray[np.bool_]) -> None:
        """Fill `out` (m, d_in) of `dtype` with those rows from `start` on where `kept` (n,) is."""
        edges = np.flatnonzero(np.diff(kept, prepend=False, append=False)).reshape(-1, 2)
        if len(edges) > _MOST_RUNS or not self._array.direct:
            if len(out) == len(kept):
                self.read(out, start)
                return
            rows = torch.empty(len(kept), self.width, dtype=self.dtype)
            self.read(rows, start)
            torch.index_select(rows, 0, torch.from_numpy(np.flatnonzero(kept)), out=out)
            return
        filled = 0
        for first, end in edges.tolist():
            self.read(out[filled : filled + end - first], start + first)
            filled += end - first

    def _disk_rows(self, start: int, n: int) -> DiskRows:
        """Rows as they are on disk: in the file, or in memory that this thread uses again."""
        array = self._array.view(start, start + n)
        if array is None:
            if not hasattr(self._scratch, "array"):
                self._scratch.array = np.empty((_BLOCK_ROWS, self.width), self._array.dtype)
            array = self._scratch.array[:n]
            self._array.read_into(array, start)
        if self._scales is None:
            return DiskRows(array, None)
        scales = np.empty(n, np.float32)
        self._scales.read_into(scales, start)
        return DiskRows(array, scales)


def _as_numpy(x: Tensor) -> npt.NDArray[Any]:
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
