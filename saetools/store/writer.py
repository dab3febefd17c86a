"""Writing an activation store so that a kill at any moment loses no committed row.

Data first, flush, then the commit counter, flush. On reopening only the counter is trusted:
everything behind it is cut off and written again.
"""

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
from saetools.store.schema import (
    CHUNK_ROWS,
    FORMAT,
    Moments,
    TokenColumns,
    from_disk,
    numpy_dtype,
    to_disk,
)

__all__ = ["StoreWriter"]


class StoreWriter:
    """An activation store that is being written; use it as a context manager.

    Args:
        path: file to write; a new one, or one of the same manifest (versions aside) to go on with.
        manifest: what the store holds and where it comes from; must include "dtype" and "widths".
        labels, titles: of each document, empty text where there is none.
        held_out: True at documents that training must not see, shape (n_docs,).

    Raises:
        StoreError: the file exists and is damaged, foreign, or of another manifest.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        manifest: Mapping[str, Any],
        labels: Sequence[str],
        titles: Sequence[str],
        held_out: npt.NDArray[np.bool_],
    ) -> None:
        self.path = Path(path)
        self._manifest = dict(manifest)
        self._dtype = str(manifest["dtype"])
        self._widths: dict[str, int] = dict(manifest["widths"])
        if self.path.exists():
            self._file = _reopen(self.path, self._manifest)
        else:
            self._file = self._create(labels, titles, held_out)
        self._moments = {name: self._saved_moments(name) for name in self._widths}
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
        try:
            for name, x in activations.items():
                disk = to_disk(x, self._dtype)
                self._append(f"activations/{name}", disk, start, stop)
                # Moments are those of the numbers that a reader will see.
                self._moments[name] = self._moments[name].merged(from_disk(disk, self._dtype))
                self._write_moments(name, turn)
            for name, column in columns._asdict().items():
                self._append(name, column, start, stop)
            self._file.flush()
            self._file.attrs.modify("committed", np.array([stop, n_docs_done, turn]))
            self._file.flush()
        except OSError as error:
            n_bytes = sum(x.numel() * x.element_size() for x in activations.values())
            free = os.statvfs(self.path.parent)
            raise StoreError(
                f"could not append {n_bytes:,} bytes to {self.path} ({error}); the disk has "
                f"{free.f_bavail * free.f_frsize:,} bytes free. The {start:,} rows before are "
                "safe: make room and run the same harvest again to go on from there"
            ) from error

    def finish(self) -> None:
        """Mark the store as complete."""
        self._file.attrs["complete"] = True
        self._file.flush()

    def close(self) -> None:
        """Close the file; what was not committed is lost."""
        self._file.close()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _create(
        self, labels: Sequence[str], titles: Sequence[str], held_out: npt.NDArray[np.bool_]
    ) -> h5py.File:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The file appears under its name only once its header is whole.
        scratch = self.path.with_name(self.path.name + ".partial")
        with h5py.File(scratch, "w") as file:
            file.attrs.update(format=FORMAT, complete=False, committed=np.zeros(3, np.int64))
            file.attrs["manifest"] = json.dumps(self._manifest)
            for name, width in self._widths.items():
                shape = (0, width)
                rows = file.create_dataset(
                    f"activations/{name}",
                    shape,
                    maxshape=(None, width),
                    chunks=(CHUNK_ROWS, width),
                    dtype=numpy_dtype(self._dtype),
                )
                rows.attrs["dtype"] = self._dtype
                file.create_dataset(f"moments/{name}", data=np.zeros((2, 2, width)))
            for name in TokenColumns._fields:
                file.create_dataset(
                    name, (0,), maxshape=(None,), chunks=(CHUNK_ROWS,), dtype=np.int32
                )
            text = h5py.string_dtype()
            file.create_dataset("documents/label", data=list(labels), dtype=text)
            file.create_dataset("documents/title", data=list(titles), dtype=text)
            file.create_dataset("documents/held_out", data=held_out)
        os.replace(scratch, self.path)
        return h5py.File(self.path, "r+")

    def _append(self, name: str, data: npt.NDArray[Any], start: int, stop: int) -> None:
        dataset = self._file[name]
        dataset.resize(stop, axis=0)
        dataset[start:stop] = data

    def _cut_to_counter(self) -> None:
        names = [f"activations/{name}" for name in self._widths] + list(TokenColumns._fields)
        for name in names:
            if len(self._file[name]) != self.n_tokens:
                self._file[name].resize(self.n_tokens, axis=0)

    def _saved_moments(self, name: str) -> Moments:
        count, _, turn = self._file.attrs["committed"]
        mean, deviation = self._file[f"moments/{name}"][turn % 2]
        return Moments(int(count), mean, deviation)

    def _write_moments(self, name: str, turn: int) -> None:
        # Two slots in turn: those of the last commit stay whole until the next one counts.
        moments = self._moments[name]
        self._file[f"moments/{name}"][turn % 2] = np.stack([moments.mean, moments.deviation])


def _reopen(path: Path, manifest: Mapping[str, Any]) -> h5py.File:
    try:
        file = h5py.File(path, "r+")
    except OSError as error:
        raise StoreError(
            f"{path} exists but is no readable HDF5 file ({error}); delete it or choose another"
        ) from error
    try:
        _check_same(path, file, manifest)
    except BaseException:
        file.close()
        raise
    return file


def _check_same(path: Path, file: h5py.File, manifest: Mapping[str, Any]) -> None:
    if file.attrs.get("format") != FORMAT:
        raise StoreError(
            f"{path} exists and is not a {FORMAT} store (format: {file.attrs.get('format')!r}); "
            "choose another path"
        )
    held = json.loads(file.attrs["manifest"])
    wanted = json.loads(json.dumps(dict(manifest)))
    differ = sorted(k for k in held.keys() | wanted.keys() if held.get(k) != wanted.get(k))
    differ = [key for key in differ if key != "versions"]
    if differ:
        what = "; ".join(f"{k}: has {held.get(k)}, asked {wanted.get(k)}" for k in differ)
        raise StoreError(
            f"{path} holds another harvest ({what}); choose another path or delete the file"
        )
