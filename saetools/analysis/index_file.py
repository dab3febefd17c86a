"""An index on disk: HDF5, format `saetools-index/1`, one group a table, one dataset a column.

Texts are JSON in a byte array: HDF5 strings cannot hold a NUL, and tokens of byte-level
tokenizers can.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from saetools.analysis.contexts import ContextTable
from saetools.analysis.tables import DocTable, LabelTable, LatentStats
from saetools.analysis.units import UnitTable
from saetools.errors import FormatError

__all__ = ["FORMAT", "read_index", "write_index"]

FORMAT = "saetools-index/1"

_TABLES: dict[str, type[Any]] = {
    "stats": LatentStats,
    "label_table": LabelTable,
    "contexts": ContextTable,
    "docs": DocTable,
}
_SCALARS = ("hook_name", "n_tokens", "n_tokens_train", "window")


class _Index(Protocol):
    @property
    def source(self) -> Mapping[str, Any]: ...
    @property
    def token_texts(self) -> list[str]: ...
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
        _put(file, "source", dict(index.source))
        _put(file, "token_texts", index.token_texts)
        for name, kind in _TABLES.items():
            _put_table(file.create_group(name), getattr(index, name), kind)
        for name, table in index.units.items():
            _put_table(file.create_group(f"units/{name}"), table, UnitTable)
    os.replace(scratch, path)
    return path


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
            newer = (
                "; a newer saetools wrote it" if str(found).startswith("saetools-index/") else ""
            )
            raise FormatError(
                f"{path} is no index that this version reads: its format is {found!r}, "
                f"wanted {FORMAT!r}{newer}; index the SAE again"
            )
        try:
            return _fields(file)
        except (KeyError, OSError) as error:
            raise FormatError(f"{path} is damaged ({error}); index the SAE again") from error


def _fields(file: h5py.File) -> dict[str, Any]:
    values: dict[str, Any] = {
        "hook_name": str(file.attrs["hook_name"]),
        "n_tokens": int(file.attrs["n_tokens"]),
        "n_tokens_train": int(file.attrs["n_tokens_train"]),
        "window": int(file.attrs["window"]),
        "source": _get(file["source"]),
        "token_texts": _get(file["token_texts"]),
    }
    for name, kind in _TABLES.items():
        values[name] = _get_table(file[name], kind)
    values["units"] = {name: _get_table(file["units"][name], UnitTable) for name in file["units"]}
    return values


def _put_table(group: h5py.Group, table: Any, kind: type[Any]) -> None:
    for field in fields(kind):
        _put(group, field.name, getattr(table, field.name))


def _get_table(group: h5py.Group, kind: type[Any]) -> Any:
    return kind(**{field.name: _get(group[field.name]) for field in fields(kind)})


def _put(group: h5py.Group, name: str, value: Any) -> None:
    is_array = isinstance(value, np.ndarray)
    data = value if is_array else np.frombuffer(json.dumps(value, default=str).encode(), np.uint8)
    packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if data.size else {}
    dataset = group.create_dataset(name, data=data, **packing)
    dataset.attrs["json"] = not is_array


def _get(dataset: h5py.Dataset) -> Any:
    data = dataset[()]
    return json.loads(data.tobytes()) if dataset.attrs["json"] else data
