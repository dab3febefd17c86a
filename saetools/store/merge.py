"""Several stores as one, without copying activations.

The merged store is a small HDF5 file: the activations in it are virtual datasets over those of the
shards, by relative path, so that h5py alone reads them too. Token columns and documents, which are
small and renumbered, are its own.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from saetools.errors import StoreError
from saetools.repro import fingerprint
from saetools.store.checksums import Checksums, checksum_path, crc32
from saetools.store.moments import Moments, create_moments, write_moments
from saetools.store.reader import ActivationStore
from saetools.store.schema import (
    CHUNK_ROWS,
    FORMAT,
    PRECISION_ERROR,
    TokenColumns,
    as_json,
    row_datasets,
    write_documents,
)
from saetools.store.shards import Shard

__all__ = ["checksum_of", "merge"]

# Everything else that manifests say must be the same in all shards.
_MAY_DIFFER = {"corpus", "n_tokens", "held_out", "versions", "filter", "shard", "shards"}
_MAY_DIFFER |= {PRECISION_ERROR}
_BLOCK_ROWS = 1 << 20


def merge(shards: Sequence[str | Path], *, out: str | Path) -> ActivationStore:
    """Make one store `out` of several, in the order given, and return it, opened.

    Documents are renumbered; which of them are held out stays as it is. The shards are not copied
    and must stay where they are, seen from `out`: move them together.

    Raises:
        StoreError: `out` exists; there are no shards; one is given twice, is unfinished or damaged;
            or they are not of one kind (the message names the difference).
    """
    out = Path(out)
    if out.exists():
        raise StoreError(
            f"cannot merge to {out}: it exists; delete it or choose another path to merge to"
        )
    _check_paths([Path(path) for path in shards])
    stores: list[ActivationStore] = []
    try:
        stores.extend(ActivationStore.open(path) for path in shards)
        _check_alike(stores)
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = out.with_name(out.name + ".partial")
        with h5py.File(scratch, "w") as file:
            _write(file, stores, out)
        os.replace(scratch, out)
    finally:
        for store in stores:
            store.close()
    return ActivationStore.open(out)


def checksum_of(store: ActivationStore) -> int:
    """CRC-32 of all the checksums of a store; 0 where an earlier version wrote it without."""
    value = 0
    for dataset in row_datasets(store.hook_names, store.dtype):
        if checksum_path(dataset) in store.file:
            value = crc32(store.file[checksum_path(dataset)][:], value)
    return value


def _check_paths(paths: Sequence[Path]) -> None:
    if not paths:
        raise StoreError("cannot merge no stores: give the paths of those to merge")
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise StoreError(f"cannot merge {path} twice: give each store once")
        seen.add(path.resolve())


def _check_alike(stores: Sequence[ActivationStore]) -> None:
    first = stores[0]
    for store in stores[1:]:
        keys = (first.manifest.keys() | store.manifest.keys()) - _MAY_DIFFER
        for key in sorted(keys):
            one, two = first.manifest.get(key), store.manifest.get(key)
            if one != two:
                raise StoreError(
                    f"cannot merge {first.path} and {store.path}: they differ in {key}, {one} and "
                    f"{two}; merge stores of one model, harvested with the same settings"
                )


def _write(file: h5py.File, stores: Sequence[ActivationStore], out: Path) -> None:
    first = stores[0]
    n_tokens, n_docs = (sum(counts) for counts in zip(*map(_counts, stores), strict=True))
    file.attrs.update(format=FORMAT, complete=False, committed=np.array([n_tokens, n_docs, 0]))
    if any("dropped" in store.file.attrs for store in stores):
        file.attrs["dropped"] = np.array([sum(map(_dropped, stores)), 0])
    moments = {hook: _joined_moments(stores, hook) for hook in first.hook_names}
    file.attrs["manifest"] = json.dumps(_manifest(stores, out, moments))
    own = list(TokenColumns._fields)
    for dataset in row_datasets(first.hook_names, first.dtype):
        if dataset not in own:
            _join(file, dataset, stores, out)
    for hook in first.hook_names:
        file[f"activations/{hook}"].attrs["dtype"] = first.dtype
        create_moments(file, hook, first.width(hook))
        write_moments(file, hook, moments[hook], slot=0)
    for name in own:
        file.create_dataset(
            name, (n_tokens,), maxshape=(None,), chunks=(CHUNK_ROWS,), dtype=np.int32
        )
    Checksums.create(file, own)
    _write_columns(file, stores)
    write_documents(
        file,
        labels=[label or "" for store in stores for label in store.labels[: store.n_docs]],
        titles=[title or "" for store in stores for title in store.titles[: store.n_docs]],
        held_out=np.concatenate([store.held_out for store in stores]),
    )
    file.attrs["complete"] = True


def _write_columns(file: h5py.File, stores: Sequence[ActivationStore]) -> None:
    checksums = {name: Checksums(file, name) for name in TokenColumns._fields}
    row, first_doc = 0, 0
    for store in stores:
        for start in range(0, store.n_tokens, _BLOCK_ROWS):
            part = store.columns(start, min(start + _BLOCK_ROWS, store.n_tokens))
            part = part._replace(doc=part.doc + np.int32(first_doc))
            for name, column in part._asdict().items():
                file[name][row : row + len(column)] = column
                checksums[name].add(column)
            row += len(part.doc)
        first_doc += store.n_docs
    for each in checksums.values():
        each.finish()


def _join(file: h5py.File, name: str, stores: Sequence[ActivationStore], out: Path) -> None:
    """A virtual dataset over the datasets of that name in the shards."""
    sources = [store.file[name] for store in stores]
    n_tokens = sum(store.n_tokens for store in stores)
    layout = h5py.VirtualLayout((n_tokens, *sources[0].shape[1:]), sources[0].dtype)
    row = 0
    for store, source in zip(stores, sources, strict=True):
        if store.n_tokens:
            shown = h5py.VirtualSource(_relative(store.path, out), name, source.shape)
            layout[row : row + store.n_tokens] = shown[: store.n_tokens]
        row += store.n_tokens
    file.create_virtual_dataset(name, layout)


def _joined_moments(stores: Sequence[ActivationStore], hook: str) -> Moments:
    total = stores[0].moments(hook)
    for store in stores[1:]:
        total = total.joined(store.moments(hook))
    return total


def _manifest(
    stores: Sequence[ActivationStore], out: Path, moments: Mapping[str, Moments]
) -> dict[str, Any]:
    """That of the first shard; where shards may differ and do, what is true of all together."""
    own = ("shard", "shards", PRECISION_ERROR)
    manifest = {k: v for k, v in stores[0].manifest.items() if k not in own}
    for key in ("corpus", "n_tokens", "held_out", "filter"):
        said: list[Any] = [store.manifest.get(key) for store in stores]
        if all(value == said[0] for value in said):
            continue
        manifest[key] = said
        if key == "corpus":
            manifest[key] = {
                "name": " + ".join(dict.fromkeys(str(corpus["name"]) for corpus in said)),
                "fingerprint": fingerprint(said),
                "n_docs": sum(store.n_docs for store in stores),
            }
    if all("precision" in store.file for store in stores):  # earlier versions did not measure it
        measured = {hook: total.precision_error for hook, total in moments.items()}
        manifest[PRECISION_ERROR] = as_json(measured)
    manifest["shards"] = [
        Shard(_relative(store.path, out), *_counts(store), checksum_of(store))._asdict()
        for store in stores
    ]
    return manifest


def _counts(store: ActivationStore) -> tuple[int, int]:
    return store.n_tokens, store.n_docs


def _dropped(store: ActivationStore) -> int:
    turn = int(store.file.attrs["committed"][2])
    return int(store.file.attrs["dropped"][turn % 2]) if "dropped" in store.file.attrs else 0


def _relative(path: Path, out: Path) -> str:
    return Path(os.path.relpath(path.resolve(), out.parent.resolve())).as_posix()
