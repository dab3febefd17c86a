"""An index on disk: HDF5, format `saetools-index/2`, one group a table, one dataset a column.

The tables of units and the coded activations stay in the file: an index that was loaded reads them
when they are asked for, activations one latent at a time.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from saetools.analysis.columns import PACKING, get, get_table, put, put_table
from saetools.analysis.contexts import ContextTable
from saetools.analysis.index_source import IndexSource
from saetools.analysis.logit_lens import LogitTable
from saetools.analysis.neighbours import Neighbours
from saetools.analysis.postings import DocTokens, FileLists, Lists
from saetools.analysis.tables import DocTable, LabelTable, LatentStats
from saetools.analysis.units import UnitTable
from saetools.errors import FormatError

__all__ = ["FORMAT", "made_from", "read_index", "write_index"]

FORMAT = "saetools-index/2"

_TABLES: dict[str, type[Any]] = {
    "stats": LatentStats,
    "label_table": LabelTable,
    "contexts": ContextTable,
    "docs": DocTable,
    "doc_tokens": DocTokens,
    "decoder_neighbours": Neighbours,
    "coactivation": Neighbours,
}
_OPTIONAL: dict[str, type[Any]] = {
    "parents": Neighbours,
    "children": Neighbours,
    "logits": LogitTable,
}
_PLAIN = ("source", "token_texts", "level", "widths")
_CHUNK = 65_536  # activations, which are read and unpacked together
_BLOCK = 64 * _CHUNK
_SCALARS = ("hook_name", "n_tokens", "n_tokens_train", "window")


class _Index(Protocol):
    @property
    def source(self) -> Mapping[str, Any]: ...
    @property
    def lists(self) -> Lists: ...
    @property
    def units(self) -> Mapping[str, UnitTable]: ...


def write_index(index: _Index, path: Path) -> Path:
    """Write an index beside `path`, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".partial")
    with h5py.File(scratch, "w") as file:
        file.attrs["format"] = FORMAT
        for name in _SCALARS:
            file.attrs[name] = getattr(index, name)
        file.attrs["made_from"] = str(index.source.get("made_from", ""))
        for name in _PLAIN:
            put(file, name, getattr(index, name))
        present = {n: kind for n, kind in _OPTIONAL.items() if getattr(index, n) is not None}
        for name, kind in {**_TABLES, **present}.items():
            put_table(file.create_group(name), getattr(index, name), kind)
        for name, table in index.units.items():
            put_table(file.create_group(f"units/{name}"), table, UnitTable)
        _put_lists(file.create_group("lists"), index.lists)
    os.replace(scratch, path)
    return path


def made_from(path: Path) -> str | None:
    """What an index says it was made from; None where there is no index of this format."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                return None
            return str(file.attrs["made_from"])
    except (OSError, KeyError):
        return None


def read_index(path: Path) -> dict[str, Any]:
    """Read the fields of an index."""
    if not path.is_file():
        raise FormatError(
            f"there is no index at {path}; `saetools index` or index_latents writes it"
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FormatError(
            f"{path} cannot be opened as HDF5 ({error}): it is truncated or another kind of file; "
            "index the SAE again"
        ) from error
    with file:
        found = file.attrs.get("format")
        if found != FORMAT:
            name, _, version = str(found).partition("/")
            age = ""
            if name == "saetools-index":
                age = f"; {'an older' if version == '1' else 'a newer'} saetools wrote it"
            raise FormatError(
                f"{path} is no index that this version reads: its format is {found!r}, "
                f"wanted {FORMAT!r}{age}; index the SAE again"
            )
        try:
            return _fields(file, path)
        except (KeyError, OSError) as error:
            raise FormatError(f"{path} is damaged ({error}); index the SAE again") from error


def _fields(file: h5py.File, path: Path) -> dict[str, Any]:
    values: dict[str, Any] = {
        "hook_name": str(file.attrs["hook_name"]),
        "n_tokens": int(file.attrs["n_tokens"]),
        "n_tokens_train": int(file.attrs["n_tokens_train"]),
        "window": int(file.attrs["window"]),
        **{name: get(file[name]) for name in _PLAIN},
    }
    present = {name: kind for name, kind in _OPTIONAL.items() if name in file}
    for name, kind in {**_TABLES, **present}.items():
        values[name] = get_table(file[name], kind)
    source = IndexSource(path.resolve(), str(file.attrs["made_from"]))
    values["units"] = FileUnits(source, tuple(file["units"]))
    values["lists"] = FileLists(source, get(file["lists/bounds"]))
    return values


class FileUnits(Mapping[str, UnitTable]):
    """The units of an index, each kind read when it is first asked for."""

    def __init__(self, source: IndexSource, kinds: tuple[str, ...]) -> None:
        self._source, self._kinds = source, kinds
        self._read: dict[str, UnitTable] = {}

    def __getitem__(self, kind: str) -> UnitTable:
        if kind not in self._kinds:
            raise KeyError(kind)
        if kind not in self._read:
            with self._source.opened() as file:
                self._read[kind] = get_table(file["units"][kind], UnitTable)
        return self._read[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


def _put_lists(group: h5py.Group, lists: Lists) -> None:
    """Write the coded activations block by block, so that they need not be in memory."""
    put(group, "bounds", lists.bounds)
    n = int(lists.bounds[-1])
    columns = {
        name: group.create_dataset(
            name, (n,), dtype, chunks=(min(_CHUNK, n),) if n else None,
            **(PACKING if n else {}),
        )
        for name, dtype in (("step", np.uint32), ("share", np.float16))
    }  # fmt: skip
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        coded = lists.read(start, stop)
        columns["step"][start:stop], columns["share"][start:stop] = coded.step, coded.share
