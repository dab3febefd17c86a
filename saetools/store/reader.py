"""Reading an activation store: by range, as a stream in file order, or shuffled for training."""

import json
from collections.abc import Iterator
from functools import cached_property
from html import escape
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, SupportsIndex

import h5py
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import HookNotFoundError, IncompleteStoreError, StoreError, nearest
from saetools.store.schema import FORMAT, Moments, TokenColumns, from_disk
from saetools.store.shuffle import shuffled_batches

__all__ = ["ActivationStore", "Split", "StoreBatch"]

Split = Literal["all", "train", "held_out"]


class StoreBatch(NamedTuple):
    """Rows of a store in file order: activations (n, d_in) float32, and (n,) columns."""

    x: Float[Tensor, "n d_in"]
    row: npt.NDArray[np.int64]
    token_ids: npt.NDArray[np.int32]
    doc: npt.NDArray[np.int32]
    pos: npt.NDArray[np.int32]


class ActivationStore:
    """Activations of a subject model on a corpus, on disk.

    Open one with `ActivationStore.open(path)`; `harvest` writes and returns one. Rows are content
    tokens, in the order of the corpus. Closing is optional; it is also a context manager.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file
        self.manifest: dict[str, Any] = json.loads(file.attrs["manifest"])

    @classmethod
    def open(cls, path: str | Path, *, allow_incomplete: bool = False) -> "ActivationStore":
        """Open a store for reading.

        Raises:
            StoreError: no such file, a truncated one, or not a store of this format.
            IncompleteStoreError: the harvest did not finish, and `allow_incomplete` is False.
        """
        path = Path(path)
        if not path.is_file():
            raise StoreError(
                f"there is no activation store at {path}; `saetools harvest` writes one"
            )
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise StoreError(
                f"{path} cannot be opened as HDF5 ({error}): it is truncated, in use by a harvest, "
                "or another kind of file; harvest it again"
            ) from error
        try:
            _check_readable(path, file, allow_incomplete)
            return cls(path, file)
        except BaseException:
            file.close()
            raise

    @property
    def complete(self) -> bool:
        """Whether the harvest ran to its end."""
        return bool(self._file.attrs["complete"])

    @property
    def n_tokens(self) -> int:
        """Number of rows."""
        return int(self._file.attrs["committed"][0])

    @property
    def n_docs(self) -> int:
        """Number of documents that have rows or had only special tokens."""
        return int(self._file.attrs["committed"][1])

    @property
    def hook_names(self) -> tuple[str, ...]:
        """Hooks whose activations are stored."""
        return tuple(self.manifest["widths"])

    @property
    def hook_name(self) -> str:
        """The first hook; the only one of most stores."""
        return self.hook_names[0]

    @property
    def d_in(self) -> int:
        """Width of the activations at the first hook."""
        return self.width()

    @property
    def dtype(self) -> str:
        """Precision on disk: float32, float16 or bfloat16."""
        return str(self.manifest["dtype"])

    @cached_property
    def labels(self) -> list[str | None]:
        """Label of each document, None where it has none."""
        return [text or None for text in self._texts("label")]

    @cached_property
    def titles(self) -> list[str | None]:
        """Title of each document, None where it has none."""
        return [text or None for text in self._texts("title")]

    @cached_property
    def held_out(self) -> npt.NDArray[np.bool_]:
        """True at documents that training does not see, shape (n_docs,)."""
        flags: npt.NDArray[np.bool_] = self._file["documents/held_out"][: self.n_docs]
        return flags

    @cached_property
    def doc_spans(self) -> npt.NDArray[np.int64]:
        """First row and the row after the last of each document, shape (n_docs, 2)."""
        doc = self._file["doc"][: self.n_tokens]
        edges = np.searchsorted(doc, np.arange(self.n_docs + 1))
        return np.stack([edges[:-1], edges[1:]], axis=1).astype(np.int64)

    def width(self, hook_name: str | None = None) -> int:
        """Width of the activations at a hook (the first one by default)."""
        return int(self.manifest["widths"][self._hook(hook_name)])

    def rows(
        self, start: SupportsIndex, stop: SupportsIndex, *, hook_name: str | None = None
    ) -> Float[Tensor, "n d_in"]:
        """Activations of rows `start` to `stop` (excluded), as float32."""
        end = min(index(stop), self.n_tokens)
        return self._raw(index(start), end, self._hook(hook_name)).float()

    def columns(self, start: SupportsIndex, stop: SupportsIndex) -> TokenColumns:
        """Token ids, documents and positions of rows `start` to `stop` (excluded)."""
        span = slice(index(start), min(index(stop), self.n_tokens))
        return TokenColumns(*(self._file[name][span] for name in TokenColumns._fields))

    def moments(self, hook_name: str | None = None) -> Moments:
        """Count, mean and variance of all rows of a hook, held-out ones included."""
        turn = int(self._file.attrs["committed"][2])
        mean, deviation = self._file[f"moments/{self._hook(hook_name)}"][turn % 2]
        return Moments(self.n_tokens, mean, deviation)

    def n_rows(self, split: Split = "all") -> int:
        """Number of rows in a split."""
        return int(self._row_counts(split).sum())

    def stream(
        self, *, split: Split = "all", batch_tokens: int = 4096, hook_name: str | None = None
    ) -> Iterator[StoreBatch]:
        """Rows of a split in file order, read `batch_tokens` at a time."""
        hook = self._hook(hook_name)
        wanted = self._wanted_docs(split)
        for start in range(0, self.n_tokens, batch_tokens):
            stop = min(start + batch_tokens, self.n_tokens)
            columns = self.columns(start, stop)
            keep = np.flatnonzero(wanted[columns.doc])
            if len(keep) == 0:
                continue
            x = self._raw(start, stop, hook)
            yield StoreBatch(
                x[torch.from_numpy(keep)].float(),
                keep + start,
                *(column[keep] for column in columns),
            )

    def batches(
        self,
        batch_tokens: int,
        *,
        seed: int,
        epoch: int = 0,
        start: int = 0,
        split: Split = "train",
        hook_name: str | None = None,
    ) -> Iterator[Float[Tensor, "n d_in"]]:
        """Shuffled float32 batches (batch_tokens, d_in) of one epoch, from batch `start` on.

        The order is a function of (seed, epoch) alone. A last batch that is not full is left out,
        unless it is the only one.
        """
        hook = self._hook(hook_name)
        wanted = self._wanted_docs(split)
        size = self._chunk_rows

        def read(chunk: int) -> Tensor:
            begin, end = chunk * size, min((chunk + 1) * size, self.n_tokens)
            keep = np.flatnonzero(wanted[self._file["doc"][begin:end]])
            return self._raw(begin, end, hook)[torch.from_numpy(keep)]

        return shuffled_batches(
            read,
            self._row_counts(split),
            batch_tokens=batch_tokens,
            seed=seed,
            epoch=epoch,
            start=start,
        )

    def n_batches(self, batch_tokens: int, *, split: Split = "train") -> int:
        """Number of batches that `batches` gives an epoch."""
        rows = self.n_rows(split)
        return max(rows // batch_tokens, 1 if rows else 0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "ActivationStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.n_tokens

    def __repr__(self) -> str:
        return (
            f"ActivationStore({str(self.path)!r}, {self.n_tokens:,} tokens of width {self.d_in} "
            f"in {self.dtype} at {', '.join(self.hook_names)})"
        )

    def _repr_html_(self) -> str:
        facts = {
            "file": self.path,
            "model": self.manifest["model"]["name"],
            "hooks": ", ".join(self.hook_names),
            "tokens": f"{self.n_tokens:,} ({self.n_rows('held_out'):,} held out)",
            "documents": f"{self.n_docs:,}",
            "width": self.d_in,
            "dtype": self.dtype,
            "complete": self.complete,
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(key)}</th>"
            f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
            for key, value in facts.items()
        )
        return f"<table><caption>Activation store</caption>{cells}</table>"

    @property
    def _chunk_rows(self) -> int:
        return int(self._file[f"activations/{self.hook_name}"].chunks[0])

    def _row_counts(self, split: Split) -> npt.NDArray[np.int64]:
        """Rows of the split in each chunk."""
        wanted = self._wanted_docs(split)[self._file["doc"][: self.n_tokens]]
        starts = np.arange(0, max(self.n_tokens, 1), self._chunk_rows)
        return np.add.reduceat(wanted.astype(np.int64), starts) if len(wanted) else starts * 0

    def _wanted_docs(self, split: Split) -> npt.NDArray[np.bool_]:
        if split == "all":
            return np.ones(self.n_docs, dtype=bool)
        return self.held_out if split == "held_out" else ~self.held_out

    def _raw(self, start: int, stop: int, hook: str) -> Tensor:
        dataset = self._file[f"activations/{hook}"]
        array = np.empty((max(stop - start, 0), dataset.shape[1]), dataset.dtype)
        if len(array):
            dataset.read_direct(array, np.s_[start:stop])
        return from_disk(array, self.dtype)

    def _hook(self, hook_name: str | None) -> str:
        if hook_name is None:
            return self.hook_name
        if hook_name in self.hook_names:
            return hook_name
        close = nearest(hook_name, self.hook_names)
        raise HookNotFoundError(
            f"{self.path} has no activations at '{hook_name}'; it holds "
            f"{', '.join(self.hook_names)} (nearest: {', '.join(close)}); harvest that hook"
        )

    def _texts(self, name: str) -> list[str]:
        texts: list[str] = self._file[f"documents/{name}"].asstr()[: self.n_docs].tolist()
        return texts


def _check_readable(path: Path, file: h5py.File, allow_incomplete: bool) -> None:
    written = file.attrs.get("format")
    if written != FORMAT:
        newer = "; a newer saetools wrote it" if str(written).startswith("saetools-acts/") else ""
        raise StoreError(
            f"{path} is no activation store: its format is {written!r}, this version of saetools "
            f"reads {FORMAT!r}{newer}"
        )
    if not file.attrs["complete"] and not allow_incomplete:
        n_tokens, n_docs, _ = file.attrs["committed"]
        raise IncompleteStoreError(
            f"the harvest of {path} stopped after {n_tokens:,} tokens of {n_docs:,} documents; "
            "run the same harvest again to finish it"
        )
