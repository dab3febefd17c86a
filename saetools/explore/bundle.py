"""The data of an explorer: a JSON head and a body of typed arrays, both gzipped.

Twenty thousand latents have some six million tokens of context; as JSON that is 60 MB and a slow
start, as arrays a quarter of it. A page holds both in base64, which has no `<`, so no text of a
corpus can end the element that holds it; a widget is sent the bytes. `static/unpack.js` is the
reader.
"""

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NONE_16", "NONE_32", "Bundle", "plain"]

NONE_16 = 0xFFFF
NONE_32 = 0xFFFFFFFF
"""What an unsigned array holds where there is nothing."""

_CODES = {"float32": "f4", "uint32": "u4", "uint16": "u2", "uint8": "u1", "int8": "i1"}


@dataclass(frozen=True)
class Bundle:
    """Everything that a page shows.

    Args:
        head: what JSON holds well: texts, facts, charts.
        arrays: flat arrays by name, of dtype float32, uint32, uint16, uint8 or int8.
    """

    head: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]

    def encoded(self) -> tuple[bytes, bytes]:
        """Head and body, gzipped; equal data give equal bytes."""
        return self._encoded

    @cached_property
    def _encoded(self) -> tuple[bytes, bytes]:
        # Widest first, so that every array starts at a multiple of its item size.
        ordered = sorted(self.arrays.items(), key=lambda item: -item[1].dtype.itemsize)
        listing = [
            {"name": name, "dtype": _CODES[array.dtype.name], "length": array.size}
            for name, array in ordered
        ]
        head = json.dumps({**plain(self.head), "arrays": listing}, separators=(",", ":"))
        body = b"".join(
            array.astype(array.dtype.newbyteorder("<")).tobytes() for _, array in ordered
        )
        return _packed(head.encode("ascii")), _packed(body)


def plain(value: Any) -> Any:
    """The same value as JSON can hold it: numbers of Python, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=6, mtime=0)
