"""Reading an activation store: by range, as a stream in file order, or shuffled for training."""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from html import escape
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, SupportsIndex, get_args

import h5py
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import HookNotFoundError, IncompleteStoreError, StoreError, nearest
from saetools.store.chunks import DatasetRows, JoinedRows
from saetools.store.filters import StoreFilter, need_filter
from saetools.store.hooks import HookRows
from saetools.store.journal import recover
from saetools.store.moments import Moments, read_moments
from saetools.store.rawfile import RawFile
from saetools.store.schema import CHUNK_ROWS, FORMAT, TokenColumns
from saetools.store.shards import Shard, shard_file
from saetools.store.shuffle import GROUP_CHUNKS, mixed_batches

__all__ = ["ActivationStore", "Split", "StoreBatch"]

_COUNTED_CHUNKS = 256  # at a time, so that no column of a large store is in memory as a whole

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
    tokens, in the order of the corpus. Closing is optional; it is also a context manager. A store
    that `merge` made reads its rows from its shards, which are in `shards`.
    """

    def __init__(
        self, path: Path, file: h5py.File, shards: "Sequence[ActivationStore]" = ()
    ) -> None:
        self.path = path
        self.shards = tuple(shards)
        self.file = file
        self._raw = RawFile(path)
        self._hooks: dict[str, HookRows] = {}
        self.manifest: dict[str, Any] = json.loads(file.attrs["manifest"])

    @classmethod
    def open(cls, path: str | Path, *, allow_incomplete: bool = False) -> "ActivationStore":
        """Open a store for reading.

        Raises:
            StoreError: no such file, a truncated one, or not a store of this format; a shard of it
                is missing; or it has a filter whose package is not installed.
            IncompleteStoreError: the harvest did not finish, and `allow_incomplete` is False.
        """
        path = Path(path)
        if not path.is_file():
            raise StoreError(
                f"there is no activation store at {path}; `saetools harvest` writes one"
            )
        recover(path)
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise StoreError(
                f"{path} cannot be opened as HDF5 ({error}): it is truncated, in use by a harvest, "
                "or another kind of file; harvest it again"
            ) from error
        try:
            _check_readable(path, file, allow_incomplete)
            return cls(path, file, _open_shards(path, file))
        except BaseException:
            file.close()
            raise

    @property
    def complete(self) -> bool:
        """Whether the harvest ran to its end."""
        return bool(self.file.attrs["complete"])

    @cached_property
    def n_tokens(self) -> int:
        """Number of rows."""
        return int(self.file.attrs["committed"][0])

    @cached_property
    def n_docs(self) -> int:
        """Number of documents that have rows or had only special tokens."""
        return int(self.file.attrs["committed"][1])

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
        """Precision on disk: float32, float16, bfloat16 or int8."""
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
        flags: npt.NDArray[np.bool_] = self.file["documents/held_out"][: self.n_docs]
        return flags

    @cached_property
    def doc_spans(self) -> npt.NDArray[np.int64]:
        """First row and the row after the last of each document, shape (n_docs, 2)."""
        doc = self.file["doc"][: self.n_tokens]
        edges = np.searchsorted(doc, np.arange(self.n_docs + 1))
        return np.stack([edges[:-1], edges[1:]], axis=1).astype(np.int64)

    def find_hook(self, hook_name: str | None) -> str:
        """The name under which the store has a hook, which may be spelled in another way.

        Raises:
            HookNotFoundError: it does not have it.
        """
        if hook_name is None:
            return self.hook_name
        if hook_name in self.hook_names:
            return hook_name
        for canonical, aliases in self.manifest.get("aliases", {}).items():
            if hook_name in aliases and canonical in self.hook_names:
                return str(canonical)
        close = nearest(hook_name, self.hook_names)
        raise HookNotFoundError(
            f"{self.path} has no activations at '{hook_name}'; it holds "
            f"{', '.join(self.hook_names)} (nearest: {', '.join(close)}); harvest that hook"
        )

    def width(self, hook_name: str | None = None) -> int:
        """Width of the activations at a hook (the first one by default)."""
        return int(self.manifest["widths"][self.find_hook(hook_name)])

    def rows(
        self, start: SupportsIndex, stop: SupportsIndex, *, hook_name: str | None = None
    ) -> Float[Tensor, "n d_in"]:
        """Activations of rows `start` to `stop` (excluded), as float32."""
        return self._hook_rows(self.find_hook(hook_name)).floats(*self._span(start, stop))

    def columns(self, start: SupportsIndex, stop: SupportsIndex) -> TokenColumns:
        """Token ids, documents and positions of rows `start` to `stop` (excluded)."""
        first, end = self._span(start, stop)
        found = [np.empty(end - first, np.int32) for _ in TokenColumns._fields]
        for column, rows in zip(found, self._column_rows, strict=True):
            rows.read_into(column, first)
        return TokenColumns(*found)

    def moments(self, hook_name: str | None = None) -> Moments:
        """Count, mean, variance and norms of all rows of a hook, held-out ones included."""
        slot = int(self.file.attrs["committed"][2]) % 2
        return read_moments(self.file, self.find_hook(hook_name), count=self.n_tokens, slot=slot)

    def precision_error(self, hook_name: str | None = None) -> float:
        """Share of the variance that storing in `dtype` lost, 0 upwards; lower is better.

        Σ ‖x − x_hat‖² / Σ ‖x_hat − mean(x_hat)‖² over all rows, measured while they were written;
        x is what the writer was given, x_hat what is read.

        Raises:
            StoreError: an earlier version wrote the store and did not measure it.
        """
        if "precision" not in self.file:
            raise StoreError(
                f"{self.path} does not say what storing it as {self.dtype} lost: an earlier "
                "version of saetools wrote it; harvest it again"
            )
        return self.moments(hook_name).precision_error

    def n_rows(self, split: Split = "all") -> int:
        """Number of rows in a split."""
        return int(self._row_counts(split).sum())

    def stream(
        self, *, split: Split = "all", batch_tokens: int = 4096, hook_name: str | None = None
    ) -> Iterator[StoreBatch]:
        """Rows of a split in file order, read `batch_tokens` at a time."""
        rows = self._hook_rows(self.find_hook(hook_name))
        wanted = self._wanted_docs(split)
        for start in range(0, self.n_tokens, batch_tokens):
            stop = min(start + batch_tokens, self.n_tokens)
            columns = self.columns(start, stop)
            keep = np.flatnonzero(wanted[columns.doc])
            if len(keep) == 0:
                continue
            x = rows.floats(start, stop)
            yield StoreBatch(
                x if len(keep) == len(x) else x[torch.from_numpy(keep)],
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
        pin_memory: bool = False,
    ) -> Iterator[Float[Tensor, "n d_in"]]:
        """Shuffled float32 batches (batch_tokens, d_in) of one epoch, from batch `start` on.

        The order is a function of (seed, epoch) alone. A last batch that is not full is left out,
        unless it is the only one. Rows mix within buffers of at most 32 chunks of 4096 rows; two
        buffers are in memory, in the precision of the store (int8: in float32), and are filled in
        the background.

        Args:
            pin_memory: batches in page-locked memory, for `x.to(device, non_blocking=True)`; has
                no effect where there is no CUDA device.
        """
        rows = self._hook_rows(self.find_hook(hook_name))
        wanted, size, counts = self._wanted_docs(split), self._chunk_rows, self._row_counts(split)
        # Memory that is used again is faster than new memory, which has to be zeroed.
        pools: dict[int, Tensor] = {}
        most = int(np.sort(counts)[::-1][:GROUP_CHUNKS].sum())

        def load(chunks: npt.NDArray[np.int64], turn: int) -> Tensor:
            if turn not in pools:
                pools[turn] = torch.empty(most, rows.width, dtype=rows.dtype)
            pool, filled = pools[turn], 0
            for chunk in chunks.tolist():
                begin, end = chunk * size, min((chunk + 1) * size, self.n_tokens)
                kept = wanted[self._docs(begin, end)]
                part = pool[filled : filled + int(kept.sum())]
                rows.read_kept(part, begin, kept)
                filled += len(part)
            return pool[:filled]

        return mixed_batches(
            load,
            counts,
            batch_tokens=batch_tokens,
            seed=seed,
            epoch=epoch,
            start=start,
            pin_memory=pin_memory and torch.cuda.is_available(),
        )

    def n_batches(self, batch_tokens: int, *, split: Split = "train") -> int:
        """Number of batches that `batches` gives an epoch."""
        rows = self.n_rows(split)
        return max(rows // batch_tokens, 1 if rows else 0)

    def close(self) -> None:
        """Close the file, and those of the shards."""
        self.file.close()
        self._raw.close()
        for shard in self.shards:
            shard.close()

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
        chunks = self.file[f"activations/{self.hook_name}"].chunks
        return int(chunks[0]) if chunks else CHUNK_ROWS  # a merged store has none of its own

    def _row_counts(self, split: Split) -> npt.NDArray[np.int64]:
        """Rows of the split in each chunk."""
        wanted, size = self._wanted_docs(split), self._chunk_rows
        counts = np.zeros(-(-self.n_tokens // size), np.int64)
        for first in range(0, len(counts), _COUNTED_CHUNKS):
            begin = first * size
            kept = wanted[self._docs(begin, min(begin + _COUNTED_CHUNKS * size, self.n_tokens))]
            edges = np.arange(0, len(kept), size)
            counts[first : first + len(edges)] = np.add.reduceat(kept.astype(np.int64), edges)
        return counts

    def _wanted_docs(self, split: Split) -> npt.NDArray[np.bool_]:
        if split == "all":
            return np.ones(self.n_docs, dtype=bool)
        return self.held_out if split == "held_out" else ~self.held_out

    @cached_property
    def _column_rows(self) -> list[DatasetRows]:
        return [self._dataset_rows(name) for name in TokenColumns._fields]

    def _docs(self, start: int, stop: int) -> npt.NDArray[np.int32]:
        """Document of each row from `start` to `stop` (excluded)."""
        found = np.empty(stop - start, np.int32)
        self._column_rows[TokenColumns._fields.index("doc")].read_into(found, start)
        return found

    def _span(self, start: SupportsIndex, stop: SupportsIndex) -> tuple[int, int]:
        first = index(start)
        if first < 0:
            raise StoreError(
                f"rows of {self.path} are counted from 0; asked for those from {first} on; "
                f"count from the end with {self.n_tokens:,} (n_tokens) minus the number"
            )
        return first, max(first, min(index(stop), self.n_tokens))

    def _hook_rows(self, hook: str) -> HookRows:
        if hook not in self._hooks:
            parts = ("activations", "scales") if self.dtype == "int8" else ("activations",)
            found = [self._all_rows(f"{part}/{hook}") for part in parts]
            self._hooks[hook] = HookRows(*found, dtype=self.dtype)
        return self._hooks[hook]

    def _all_rows(self, dataset: str) -> DatasetRows | JoinedRows:
        if self.shards:
            return JoinedRows([shard._all_rows(dataset) for shard in self.shards])
        return self._dataset_rows(dataset)

    def _dataset_rows(self, dataset: str) -> DatasetRows:
        return DatasetRows(self.file[dataset], self._raw, n_rows=self.n_tokens)

    def _texts(self, name: str) -> list[str]:
        texts: list[str] = self.file[f"documents/{name}"].asstr()[: self.n_docs].tolist()
        return texts


def _open_shards(path: Path, file: h5py.File) -> list[ActivationStore]:
    """The shards of a merged store, in order; none of any other store."""
    found: list[ActivationStore] = []
    try:
        for entry in json.loads(file.attrs["manifest"]).get("shards", []):
            shard = Shard(**entry)
            store = ActivationStore.open(shard_file(path, shard))
            found.append(store)
            if (store.n_tokens, store.n_docs) != (shard.n_tokens, shard.n_docs):
                raise StoreError(
                    f"{path} was merged from shards, and {store.path} is not the one it was: it has"
                    f" {store.n_tokens:,} tokens of {store.n_docs:,} documents, it had "
                    f"{shard.n_tokens:,} of {shard.n_docs:,}; merge again"
                )
    except BaseException:
        for store in found:
            store.close()
        raise
    return found


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
    name = json.loads(file.attrs["manifest"]).get("filter")
    if name in get_args(StoreFilter) and name != "gzip":
        need_filter(name)
