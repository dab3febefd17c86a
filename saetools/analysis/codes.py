"""Sparse codes of a whole store on disk: as they come, row by row, and turned to lists by latent.

Written by row: 8 bytes for each active latent of each token, 4 for each token. Turned, 8 bytes
each again. Memory holds one block of either.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from saetools.types import SparseLatents

__all__ = ["CodeLists", "CodeWriter", "Codes", "Entries", "mapped", "turn"]

_BLOCK = 4_000_000  # entries turned at once
_PART = 4_000_000  # entries handled at once: some 100 bytes each while they are sorted and summed

Ints = npt.NDArray[np.int64]


class Entries(NamedTuple):
    """Activations of a range of latents, sorted by latent, then row."""

    latent: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    value: npt.NDArray[np.float32]

    def at(self, rows: Ints, latents: Ints) -> npt.NDArray[np.float32]:
        """Activation of latent `latents[c]` at each row `rows[c]`, 0 where it is silent.

        Args:
            rows: shape (c, w); -1 gives 0.
            latents: shape (c,), all of the range.
        """
        out = np.zeros(rows.shape, dtype=np.float32)
        if not len(self.latent):
            return out
        size = max(int(self.row.max()), int(rows.max(initial=0))) + 1
        key, wanted = self.latent * size + self.row, latents[:, None] * size + rows
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        hit = (key[place] == wanted) & (rows >= 0)
        out[hit] = self.value[place[hit]]
        return out


class CodeWriter:
    """Append codes batch by batch, in the order of rows; go on from the last commit in a folder."""

    def __init__(self, folder: Path, *, n_latents: int) -> None:
        self._folder, self._n_latents = folder, n_latents
        self._mark = folder / "codes.json"
        held = json.loads(self._mark.read_text()) if self._mark.exists() else {}
        self.n_rows, self._n_entries = int(held.get("rows", 0)), int(held.get("entries", 0))
        sizes = (4 * self.n_rows, 4 * self._n_entries, 4 * self._n_entries)
        self._streams = [
            _open_at(path, size) for path, size in zip(self._paths(), sizes, strict=True)
        ]

    def append(self, latents: SparseLatents) -> None:
        """Add the codes of the next rows; empty slots take no space."""
        active = latents.values > 0
        counts, found, values = self._streams
        counts.write(active.sum(-1).cpu().numpy().astype("<i4").tobytes())
        found.write(latents.indices[active].cpu().numpy().astype("<i4").tobytes())
        values.write(latents.values[active].float().cpu().numpy().tobytes())
        self.n_rows += len(latents)
        self._n_entries += int(active.sum())

    def commit(self) -> None:
        """Keep what was appended, whatever happens to the process from now on."""
        for stream in self._streams:
            stream.flush()
        scratch = self._mark.with_suffix(".partial")
        scratch.write_text(json.dumps({"rows": self.n_rows, "entries": self._n_entries}))
        os.replace(scratch, self._mark)

    def close(self) -> "Codes":
        """Finish writing and open the codes for reading."""
        self.commit()
        for stream in self._streams:
            stream.close()
        counts, latents, values = self._paths()
        return Codes(
            np.r_[0, np.cumsum(mapped(counts, "<i4"), dtype=np.int64)],
            mapped(latents, "<i4"),
            mapped(values, "<f4"),
            self._n_latents,
        )

    def _paths(self) -> tuple[Path, Path, Path]:
        folder = self._folder
        return folder / "counts.i4", folder / "latents.i4", folder / "values.f4"


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

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.bounds) - 1

    def row_blocks(self, limit: int) -> Iterator[tuple[int, int]]:
        """Ranges of rows of about `limit` entries (one row at least)."""
        start = 0
        while start < self.n_rows:
            stop = int(np.searchsorted(self.bounds, self.bounds[start] + limit, side="right")) - 1
            stop = min(max(stop, start + 1), self.n_rows)
            yield start, stop
            start = stop


@dataclass(frozen=True)
class CodeLists:
    """Rows and activations of every latent, latents one after the other, rows in order.

    Args:
        bounds: entries of latent j are bounds[j] to bounds[j + 1], shape (n_latents + 1,).
        rows: row of each entry.
        values: activation of each entry.
    """

    bounds: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]

    def parts(self, *, limit: int = _PART) -> Iterator[tuple[int, int]]:
        """Ranges of latents whose entries fit in memory together (one latent always does)."""
        first, held = 0, 0
        for latent, count in enumerate(np.diff(self.bounds).tolist()):
            if held and held + count > limit:
                yield first, latent
                first, held = latent, 0
            held += count
        yield first, len(self.bounds) - 1

    def entries(self, first: int, last: int) -> Entries:
        """Entries of the latents `first` to `last - 1`."""
        part = slice(int(self.bounds[first]), int(self.bounds[last]))
        sizes = np.diff(self.bounds[first : last + 1])
        latent = np.repeat(np.arange(first, last), sizes)
        return Entries(latent, self.rows[part].astype(np.int64), np.array(self.values[part]))


def turn(codes: Codes, folder: Path) -> CodeLists:
    """Sort codes by latent, on disk: files `rows.i4` and `turned.f4` in the folder."""
    counts = np.zeros(codes.n_latents, dtype=np.int64)
    for start, stop in codes.row_blocks(_BLOCK):
        part = slice(int(codes.bounds[start]), int(codes.bounds[stop]))
        counts += np.bincount(codes.latents[part], minlength=codes.n_latents)
    bounds = np.r_[0, np.cumsum(counts)]
    paths, mark = (folder / "rows.i4", folder / "turned.f4"), folder / "turned"
    if not mark.exists():
        _scatter(codes, bounds, paths)
        mark.touch()
    return CodeLists(bounds, mapped(paths[0], "<i4"), mapped(paths[1], "<f4"))


def _scatter(codes: Codes, bounds: Ints, paths: tuple[Path, Path]) -> None:
    n = int(bounds[-1])
    if n == 0:
        for path in paths:
            path.write_bytes(b"")
        return
    rows: npt.NDArray[np.int32] = np.memmap(paths[0], "<i4", mode="w+", shape=(n,))
    values: npt.NDArray[np.float32] = np.memmap(paths[1], "<f4", mode="w+", shape=(n,))
    cursor = bounds[:-1].copy()
    for start, stop in codes.row_blocks(_BLOCK):
        part = slice(int(codes.bounds[start]), int(codes.bounds[stop]))
        latent = np.asarray(codes.latents[part])
        order = np.argsort(latent, kind="stable")
        sizes = np.bincount(latent, minlength=codes.n_latents)
        place = np.arange(len(latent)) + np.repeat(cursor - (np.cumsum(sizes) - sizes), sizes)
        row = np.repeat(np.arange(start, stop), np.diff(codes.bounds[start : stop + 1]))
        rows[place], values[place] = row[order], codes.values[part][order]
        cursor += sizes


def mapped(path: Path, dtype: str) -> npt.NDArray[Any]:
    """A file as an array that is read when it is looked at."""
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def _open_at(path: Path, size: int) -> BinaryIO:
    """Open a file for writing at its first `size` bytes; what lies behind is dropped."""
    path.touch()
    stream = path.open("r+b")
    stream.truncate(size)
    stream.seek(size)
    return stream
