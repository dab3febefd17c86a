"""The folder in which an index is made: finished pieces are kept, so that a stopped run goes on.

A piece is written beside its name and moved there when it is whole. The folder says what it is
made from; work on anything else begins anew.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from saetools.analysis.columns import get, put
from saetools.repro import write_json

__all__ = ["Columns", "WorkFolder"]

Columns = Mapping[str, npt.NDArray[Any]]
"""Columns of a table, or of several as "table/column"."""


class WorkFolder:
    """Pieces of work in a folder.

    Args:
        path: the folder, made if it is missing.
        made_from: what the work is made from; a folder of other work is emptied.
    """

    def __init__(self, path: Path, made_from: str) -> None:
        self.path = path
        mark = path / "made_from.json"
        if path.exists() and (not mark.exists() or made_from not in mark.read_text()):
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        write_json(mark, {"made_from": made_from})

    def piece(self, name: str, make: Callable[[], Mapping[str, Any]]) -> Path:
        """Make a piece unless it is there: arrays and plain data by name, in one HDF5 file."""
        path = self.path / f"{name}.h5"
        if not path.exists():
            scratch = path.with_suffix(".partial")
            with h5py.File(scratch, "w") as file:
                for key, value in make().items():
                    put(file, key, value)
            os.replace(scratch, path)
        return path

    def load(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """What is in a piece, which is made if it is missing."""
        with h5py.File(self.piece(name, make), "r") as file:
            return {key: get(file[key]) for key in file}

    def array(self, name: str, n: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array on disk that is being filled; the pieces made of it tell whether it was."""
        if n == 0:
            return np.zeros(0, dtype=dtype)
        return np.memmap(self.path / name, dtype=dtype, mode="w+", shape=(n,))

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path)
