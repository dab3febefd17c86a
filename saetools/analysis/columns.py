"""Arrays, plain data and tables of columns in HDF5.

Plain data are JSON in a byte array: HDF5 strings cannot hold a NUL, and tokens of byte-level
tokenizers can.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import h5py
import numpy as np

__all__ = ["PACKING", "get", "get_table", "put", "put_table"]

PACKING = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def put_table(group: h5py.Group, table: Any, kind: type[Any]) -> None:
    """Write each field of a dataclass as a dataset."""
    for field in fields(kind):
        put(group, field.name, getattr(table, field.name))


def get_table(group: h5py.Group, kind: type[Any]) -> Any:
    """Read what `put_table` wrote."""
    return kind(**{field.name: get(group[field.name]) for field in fields(kind)})


def put(group: h5py.Group, name: str, value: Any) -> None:
    """Write an array as it is, anything else as JSON."""
    is_array = isinstance(value, np.ndarray)
    value = dict(value) if isinstance(value, Mapping) else value
    data = value if is_array else np.frombuffer(json.dumps(value, default=str).encode(), np.uint8)
    dataset = group.create_dataset(name, data=data, **(PACKING if data.size else {}))
    dataset.attrs["json"] = not is_array


def get(dataset: h5py.Dataset) -> Any:
    """Read what `put` wrote."""
    data = dataset[()]
    return json.loads(data.tobytes()) if dataset.attrs["json"] else data
