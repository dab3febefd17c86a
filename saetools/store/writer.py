"""Writing an activation store so that a kill at any moment loses no committed row.

A commit changes the file as a whole or not at all (`JournaledFile`), with or without a filter. What
an earlier version of saetools wrote behind the commit counter is cut off on reopening.
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from saetools.errors import StoreError
from saetools.store.checksums import Checksums
from saetools.store.filters import StoreFilter, filter_options
from saetools.store.journal import JournaledFile
from saetools.store.moments import Moments, create_moments, read_moments, write_moments
from saetools.store.room import told
from saetools.store.schema import (
    CHUNK_ROWS,
    FORMAT,
    PRECISION_ERROR,
    TokenColumns,
    as_json,
    from_disk,
    numpy_dtype,
    row_datasets,
    to_disk,
    write_documents,
)

__all__ = ["StoreWriter"]


class StoreWriter:
    """An activation store that is being written; use it as a context manager.

    Args:
        path: file to write; a new one, or one of the same manifest (versions aside) to go on with.
        manifest: what the store holds and where it comes from; must include "dtype" and "widths".
        labels, titles: of each document, empty text where there is none.
        held_out: True at documents that training must not see, shape (n_docs,).
        filter: how activations are compressed; None, the fastest, leaves them as they are.

    Raises:
        StoreError: the file exists and is damaged, foreign, or of another manifest; or the filter
            needs a package that is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        manifest: Mapping[str, Any],
        labels: Sequence[str],
        titles: Sequence[str],
        held_out: npt.NDArray[np.bool_],
        filter: StoreFilter | None = None,
    ) -> None:
        self.path = Path(path)
        self._manifest = dict(manifest) | ({"filter": filter} if filter else {})
        self._filter = filter_options(filter)
        self._dtype = str(manifest["dtype"])
        self._widths: dict[str, int] = dict(manifest["widths"])
        if not self.path.exists():
            self._create(labels, titles, held_out)
        self._disk, self._file = _open(self.path, self._manifest)
        self._n_dropped: int | None = None
        self._moments = {name: self._saved_moments(name) for name in self._widths}
        self._rows = row_datasets(tuple(self._widths), self._dtype)
        self._checksums = {name: Checksums(self._file, name) for name in self._rows}
        if not self.complete:
            self._cut_to_counter()

    @property
    def n_tokens(self) -> int:
        """Rows committed so far."""
        return int(self._file.attrs["committed"][0])

    @property
    def dtype(self) -> str:
        """Precision on disk."""
        return self._dtype

    @property
    def complete(self) -> bool:
        """Whether the store was finished, now or before."""
        return bool(self._file.attrs["complete"])

    @property
    def n_docs_done(self) -> int:
        """Documents whose rows are all committed."""
        return int(self._file.attrs["committed"][1])

    def commit(
        self, activations: Mapping[str, torch.Tensor], columns: TokenColumns, *, n_docs_done: int
    ) -> None:
        """Append rows and make them durable.

        Args:
            activations: (n, d_in) for every hook.
            columns: token ids, documents and positions of the same n rows.
            n_docs_done: number of documents that are finished once these rows are in.
        """
        start, stop = self.n_tokens, self.n_tokens + len(columns.doc)
        turn = int(self._file.attrs["committed"][2]) + 1
        for name, x in activations.items():
            self._append_activations(name, x, start, turn)
        for name, column in columns._asdict().items():
            self._append(name, column, start)
        self._write_dropped(turn)
        self._file.attrs.modify("committed", np.array([stop, n_docs_done, turn]))
        self._make_durable(
            what=f"append {len(columns.doc):,} rows to {self.path}",
            then=f"The {start:,} rows before are safe: make room and run the same harvest again to "
            "go on from there",
        )

    def note_dropped(self, n: int) -> None:
        """Say before a commit that `n` rows were left out of it; they count once it does."""
        self._n_dropped = n

    def finish(self) -> None:
        """Mark the store as complete, and note in its manifest what its precision lost."""
        if self.complete:
            return
        for checksums in self._checksums.values():
            checksums.finish()
        measured = {name: moments.precision_error for name, moments in self._moments.items()}
        manifest = json.loads(self._file.attrs["manifest"]) | {PRECISION_ERROR: as_json(measured)}
        self._file.attrs["manifest"] = json.dumps(manifest)
        self._file.attrs["complete"] = True
        self._make_durable(
            what=f"mark {self.path} as complete",
            then="All its rows are safe: make room and run the same harvest again to finish it",
        )

    def close(self) -> None:
        """Close the file; what was not committed is lost."""
        self._file.close()
        self._disk.close()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _make_durable(self, *, what: str, then: str) -> None:
        self._file.flush()
        with told(self.path, self._disk.n_bytes, what=what, then=then):
            self._disk.commit()

    def _create(
        self, labels: Sequence[str], titles: Sequence[str], held_out: npt.NDArray[np.bool_]
    ) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        header = io.BytesIO()
        with h5py.File(header, "w") as file:
            file.attrs.update(format=FORMAT, complete=False, committed=np.zeros(3, np.int64))
            file.attrs["manifest"] = json.dumps(self._manifest)
            for name, width in self._widths.items():
                self._create_hook(file, name, width)
            for name in TokenColumns._fields:
                _create_column(file, name, np.int32)
            Checksums.create(file, row_datasets(tuple(self._widths), self._dtype))
            write_documents(file, labels=labels, titles=titles, held_out=held_out)
        # The file appears under its name only once its header is whole.
        scratch = self.path.with_name(self.path.name + ".partial")
        then = "Nothing is written: make room or choose another disk"
        try:
            with told(self.path, len(header.getbuffer()), what=f"begin {self.path}", then=then):
                scratch.write_bytes(header.getbuffer())
                os.replace(scratch, self.path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise

    def _create_hook(self, file: h5py.File, name: str, width: int) -> None:
        rows = file.create_dataset(
            f"activations/{name}",
            (0, width),
            maxshape=(None, width),
            chunks=(CHUNK_ROWS, width),
            dtype=numpy_dtype(self._dtype),
            **self._filter,
        )
        rows.attrs["dtype"] = self._dtype
        create_moments(file, name, width)
        if self._dtype == "int8":
            _create_column(file, f"scales/{name}", np.float32)

    def _write_dropped(self, turn: int) -> None:
        if self._n_dropped is None:
            return
        # Two slots in turn, as for the moments.
        held = np.array(self._file.attrs.get("dropped", np.zeros(2, np.int64)))
        held[turn % 2] = held[(turn - 1) % 2] + self._n_dropped
        self._file.attrs["dropped"] = held

    def _append_activations(self, name: str, x: torch.Tensor, start: int, turn: int) -> None:
        disk = to_disk(x, self._dtype)
        self._append(f"activations/{name}", disk.array, start)
        if disk.scales is not None:
            self._append(f"scales/{name}", disk.scales, start)
        # Moments are those of the numbers that a reader will see.
        seen = from_disk(disk, self._dtype)
        is_exact = x.dtype == seen.dtype and disk.scales is None
        self._moments[name] = self._moments[name].merged(seen, given=None if is_exact else x)
        # Two slots in turn: those of the last commit stay whole until the next one counts.
        write_moments(self._file, name, self._moments[name], slot=turn % 2)

    def _append(self, name: str, data: npt.NDArray[Any], start: int) -> None:
        dataset = self._file[name]
        dataset.resize(start + len(data), axis=0)
        dataset[start:] = data
        self._checksums[name].add(data)

    def _cut_to_counter(self) -> None:
        for name in self._rows:
            if len(self._file[name]) != self.n_tokens:
                self._file[name].resize(self.n_tokens, axis=0)
            self._checksums[name].go_on_from(self.n_tokens)

    def _saved_moments(self, name: str) -> Moments:
        count, _, turn = self._file.attrs["committed"].tolist()
        return read_moments(self._file, name, count=count, slot=turn % 2)


def _create_column(file: h5py.File, name: str, dtype: type[np.generic]) -> None:
    file.create_dataset(name, (0,), maxshape=(None,), chunks=(CHUNK_ROWS,), dtype=dtype)


# Chunks of rows begin at pages: rows that are copied or converted from there go a quarter faster.
_ALIGNED = {"alignment_threshold": 65_536, "alignment_interval": 4096}


def _open(path: Path, manifest: Mapping[str, Any]) -> tuple[JournaledFile, h5py.File]:
    disk = JournaledFile(path)
    try:
        try:
            file = h5py.File(disk, "r+", **_ALIGNED)
        except OSError as error:
            raise StoreError(
                f"{path} exists but is no readable HDF5 file ({error}); delete it or choose another"
            ) from error
        try:
            _check_same(path, file, manifest)
        except BaseException:
            file.close()
            raise
    except BaseException:
        disk.close()
        raise
    file.flush()
    disk.forget_rest()
    return disk, file


def _check_same(path: Path, file: h5py.File, manifest: Mapping[str, Any]) -> None:
    if file.attrs.get("format") != FORMAT:
        raise StoreError(
            f"{path} exists and is not a {FORMAT} store (format: {file.attrs.get('format')!r}); "
            "choose another path"
        )
    if "checksums" not in file and not file.attrs["complete"]:
        raise StoreError(
            f"{path} was begun by an earlier version of saetools, without checksums, and cannot be "
            "gone on with; delete it and harvest again"
        )
    held = json.loads(file.attrs["manifest"])
    wanted = json.loads(json.dumps(dict(manifest)))
    differ = sorted(k for k in held.keys() | wanted.keys() if held.get(k) != wanted.get(k))
    differ = [key for key in differ if key not in ("versions", "shards", PRECISION_ERROR)]
    if differ:
        what = "; ".join(f"{k}: has {held.get(k)}, asked {wanted.get(k)}" for k in differ)
        raise StoreError(
            f"{path} holds another harvest ({what}); choose another path or delete the file"
        )
