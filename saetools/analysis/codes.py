"""Sparse codes of a whole store: spilled to disk while encoding, read back in parts.

Eight bytes for each active latent of each token on disk; memory holds one part at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from saetools.types import SparseLatents

__all__ = ["CodeWriter", "Codes", "Entries"]

_PART = 20_000_000  # entries handled at once: 16 bytes each, and a few copies while sorting


class Entries(NamedTuple):
    """Activations of a range of latents, sorted by latent, then row."""

    latent: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    value: npt.NDArray[np.float32]


class CodeWriter:
    """Append codes batch by batch, in the order of rows."""

    def __init__(self, folder: Path, *, n_latents: int) -> None:
        self._paths = (folder / "latents.i4", folder / "values.f4")
        self._streams: list[BinaryIO] = [path.open("wb") for path in self._paths]
        self._counts: list[npt.NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
        self._n_latents = n_latents

    def append(self, latents: SparseLatents) -> None:
        """Add the codes of the next rows; empty slots take no space."""
        active = latents.values > 0
        self._counts.append(active.sum(-1).cpu().numpy().astype(np.int64))
        self._streams[0].write(latents.indices[active].cpu().numpy().astype("<i4").tobytes())
        self._streams[1].write(latents.values[active].float().cpu().numpy().tobytes())

    def close(self) -> "Codes":
        """Finish writing and open the codes for reading."""
        for stream in self._streams:
            stream.close()
        latents: npt.NDArray[np.int32] = _mapped(self._paths[0], "<i4")
        values: npt.NDArray[np.float32] = _mapped(self._paths[1], "<f4")
        return Codes(np.cumsum(np.concatenate(self._counts)), latents, values, self._n_latents)


@dataclass(frozen=True)
class Codes:
    """Active latents of every row, rows one after the other.

    Args:
        bounds: entries of row r are bounds[r] to bounds[r + 1], shape (n_rows + 1,).
        latents: latent of each entry.
        values: activation of each entry.
        n_latents: size of the dictionary.
    """

    bounds: npt.NDArray[np.int64]
    latents: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    n_latents: int

    def parts(self, *, limit: int = _PART) -> Iterator[tuple[int, int]]:
        """Ranges of latents whose entries fit in memory together (one latent always does)."""
        counts = np.zeros(self.n_latents, dtype=np.int64)
        for start, stop in _blocks(len(self.latents)):
            counts += np.bincount(self.latents[start:stop], minlength=self.n_latents)
        first, held = 0, 0
        for latent, count in enumerate(counts.tolist()):
            if held and held + count > limit:
                yield first, latent
                first, held = latent, 0
            held += count
        yield first, self.n_latents

    def entries(self, first: int, last: int) -> Entries:
        """Entries of the latents `first` to `last - 1`."""
        found: list[Entries] = []
        for start, stop in _blocks(len(self.latents)):
            latent = self.latents[start:stop].astype(np.int64)
            inside = np.flatnonzero((latent >= first) & (latent < last))
            row = np.searchsorted(self.bounds, inside + start, side="right") - 1
            found.append(Entries(latent[inside], row, self.values[start:stop][inside]))
        if not found:
            empty = np.zeros(0, dtype=np.int64)
            return Entries(empty, empty, np.zeros(0, dtype=np.float32))
        latent, row, value = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(latent, kind="stable")
        return Entries(latent[order], row[order], value[order])

    def at(
        self, rows: npt.NDArray[np.int64], latents: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Activation of latent `latents[c]` at each row `rows[c]`, 0 where it is silent.

        Args:
            rows: shape (c, w); -1 gives 0.
            latents: shape (c,).
        """
        out = np.zeros(rows.shape, dtype=np.float32)
        if not len(self.latents):
            return out
        start = self.bounds[rows]
        count = np.where(rows >= 0, self.bounds[rows + 1] - start, 0)
        for slot in range(int(count.max(initial=0))):
            entry = np.minimum(start + slot, len(self.latents) - 1)
            hit = (slot < count) & (self.latents[entry] == latents[:, None])
            out[hit] = self.values[entry[hit]]
        return out


def _blocks(n: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, _PART):
        yield start, min(start + _PART, n)


def _mapped(path: Path, dtype: str) -> npt.NDArray[Any]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")
