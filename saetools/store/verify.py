"""Whether a store is what it was when it was written, and if not, which rows are not.

Everything is read once: layout, checksums of every block, finite numbers, order of documents, and
whether the statistics are those of the rows. Nothing is repaired.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import torch

from saetools import progress
from saetools.store.checksums import BLOCK_ROWS, checksum_path, crc32, has_checksums
from saetools.store.merge import checksum_of
from saetools.store.moments import N_NORM_FIGURES, Moments
from saetools.store.reader import ActivationStore
from saetools.store.schema import (
    DiskRows,
    TokenColumns,
    from_disk,
    numpy_dtype,
    row_datasets,
)

__all__ = ["Problem", "verify"]

# Sums of the same numbers in another order differ by less.
_TOLERANCE = 1e-6


class Problem(NamedTuple):
    """Something wrong with a store.

    Args:
        where: dataset, or part of the file.
        rows: first row and the row after the last that it may concern; None: not of single rows.
        what: one sentence.
    """

    where: str
    rows: tuple[int, int] | None
    what: str


def verify(store: ActivationStore) -> list[Problem]:
    """Check a store; a sound one has no problems.

    Of a merged store the shards are checked too; rows are counted as in the merged store.
    """
    wrong = list(_layout(store))
    if wrong:  # nothing else can be read safely
        return wrong
    own = list(TokenColumns._fields)
    wrong.extend(_checksums(store, own))
    wrong.extend(_documents(store))
    if store.shards:
        wrong.extend(_shards(store))
        return wrong
    n_blocks = -(-store.n_tokens // BLOCK_ROWS) * len(store.hook_names)
    with progress.task("verify", total=n_blocks, unit="blocks") as bar:
        for hook in store.hook_names:
            wrong.extend(_activations(store, hook, bar))
    return wrong


def _layout(store: ActivationStore) -> Iterator[Problem]:
    file, n_tokens = store.file, store.n_tokens
    kinds: dict[str, np.dtype[Any]] = {name: np.dtype(np.int32) for name in TokenColumns._fields}
    for hook in store.hook_names:
        kinds[f"activations/{hook}"] = np.dtype(numpy_dtype(store.dtype))
        kinds[f"scales/{hook}"] = np.dtype(np.float32)
    for name in row_datasets(store.hook_names, store.dtype):
        shape: tuple[int, ...] = (n_tokens,)
        if name.startswith("activations/"):
            shape = (n_tokens, store.width(name.removeprefix("activations/")))
        yield from _dataset(file, name, shape, kinds[name])
        if name in TokenColumns._fields or not store.shards:
            yield from _checksum_layout(store, name)
    for hook in store.hook_names:
        width = store.width(hook)
        yield from _dataset(file, f"moments/{hook}", (2, 2, width), np.dtype(np.float64))
        yield from _dataset(file, f"norms/{hook}", (2, N_NORM_FIGURES), np.dtype(np.float64))
        yield from _dataset(file, f"precision/{hook}", (2,), np.dtype(np.float64))
    for name in ("label", "title", "held_out"):
        path = f"documents/{name}"
        if path not in file:
            yield Problem(path, None, "is missing")
        elif len(file[path]) < store.n_docs:
            found = len(file[path])
            yield Problem(path, None, f"has {found:,} documents of {store.n_docs:,}")


def _dataset(
    file: h5py.File, name: str, shape: tuple[int, ...], kind: np.dtype[Any]
) -> Iterator[Problem]:
    if name not in file:
        yield Problem(name, None, "is missing; an earlier version of saetools may have written it")
        return
    found = file[name]
    if found.dtype != kind or found.shape[1:] != shape[1:] or len(found) < shape[0]:
        what = f"is {found.dtype} of shape {found.shape}; it should be {kind} of shape {shape}"
        yield Problem(name, None, what)


def _checksum_layout(store: ActivationStore, name: str) -> Iterator[Problem]:
    n_blocks = store.n_tokens // BLOCK_ROWS
    if store.complete:
        n_blocks = -(-store.n_tokens // BLOCK_ROWS)
    yield from _dataset(store.file, checksum_path(name), (n_blocks,), np.dtype(np.uint32))


def _checksums(store: ActivationStore, names: list[str]) -> Iterator[Problem]:
    for name in names:
        for start in range(0, store.n_tokens, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, store.n_tokens)
            try:
                rows = store.file[name][start:stop]
            except OSError as error:
                yield Problem(name, (start, stop), f"cannot be read ({error})")
                continue
            yield from _block(store, name, start, rows)


def _block(
    store: ActivationStore, name: str, start: int, rows: npt.NDArray[Any]
) -> Iterator[Problem]:
    """Compare a block of rows with its checksum; the open block of an unfinished store has none."""
    if not has_checksums(store.file, name):
        return
    block = start // BLOCK_ROWS
    written = store.file[checksum_path(name)]
    if block < len(written) and int(written[block]) != crc32(rows):
        what = "does not have the checksum that it was written with: bytes have changed"
        yield Problem(name, (start, start + len(rows)), what)


def _documents(store: ActivationStore) -> Iterator[Problem]:
    last = 0
    for start in range(0, store.n_tokens, BLOCK_ROWS):
        span = (start, min(start + BLOCK_ROWS, store.n_tokens))
        columns = store.columns(*span)
        doc = np.concatenate([[last], columns.doc])
        if (np.diff(doc) < 0).any():
            yield Problem("doc", span, "documents are not in order")
        if columns.doc.min() < 0 or columns.doc.max() >= store.n_docs:
            yield Problem("doc", span, f"names a document that is not one of {store.n_docs:,}")
        if columns.pos.min() < 0:
            yield Problem("pos", span, "a position is below 0")
        last = int(columns.doc[-1])


def _activations(store: ActivationStore, hook: str, bar: progress.Task) -> Iterator[Problem]:
    name, scales_name = f"activations/{hook}", f"scales/{hook}"
    found, sound = Moments.empty(store.width(hook)), True
    for start in range(0, store.n_tokens, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, store.n_tokens)
        wrong: list[Problem] = []
        try:
            array = store.file[name][start:stop]
            scales = store.file[scales_name][start:stop] if store.dtype == "int8" else None
        except OSError as error:
            wrong.append(Problem(name, (start, stop), f"cannot be read ({error})"))
        else:
            wrong.extend(_block(store, name, start, array))
            if scales is not None:
                wrong.extend(_block(store, scales_name, start, scales))
            x = from_disk(DiskRows(array, scales), store.dtype)
            bad = (~torch.isfinite(x).all(1)).nonzero()
            if len(bad):
                first, last = start + int(bad[0]), start + int(bad[-1])
                what = f"{len(bad):,} rows are not finite numbers"
                wrong.append(Problem(name, (first, last + 1), what))
            elif not wrong:
                found = found.merged(x)
        yield from wrong
        sound &= not wrong
        bar.advance(1)
    if sound:
        yield from _statistics(store.moments(hook), found, hook)


def _statistics(written: Moments, found: Moments, hook: str) -> Iterator[Problem]:
    scale = max(found.mean_sq_norm / max(len(found.mean), 1), 1e-300)
    close = np.allclose(written.mean, found.mean, rtol=_TOLERANCE, atol=_TOLERANCE * scale**0.5)
    close &= np.allclose(written.variance, found.variance, rtol=_TOLERANCE, atol=_TOLERANCE * scale)
    if not close:
        yield Problem(f"moments/{hook}", None, "mean or variance are not those of the rows")
    if int(written.norms[2:].sum()) != found.count:
        yield Problem(f"norms/{hook}", None, "the histogram does not count every row once")


def _shards(store: ActivationStore) -> Iterator[Problem]:
    first = 0
    entries = store.manifest["shards"]
    for shard, entry in zip(store.shards, entries, strict=True):
        if checksum_of(shard) != entry["checksum"]:
            what = f"{shard.path} is not the shard that was merged: its checksums differ"
            yield Problem("shards", (first, first + shard.n_tokens), what)
        for problem in verify(shard):
            rows = problem.rows and (problem.rows[0] + first, problem.rows[1] + first)
            yield Problem(problem.where, rows, f"{problem.what} (shard {shard.path})")
        first += shard.n_tokens
