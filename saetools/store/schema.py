"""The layout of an activation store, `saetools-acts/1`, and its precisions.

docs/formats.md says the same in prose. One HDF5 file:

    /                     attributes: format, manifest (JSON), complete, committed
    /activations/<hook>   (n_tokens, d_in) float32, float16, uint16 holding bfloat16, or int8
    /scales/<hook>        (n_tokens,) float32, int8 only: what a row's integers are multiplied by
    /token_ids /doc /pos  (n_tokens,) int32: the token, its document, its place in the sequence
    /documents/label, /documents/title     (n_docs,) text, empty where there is none
    /documents/held_out   (n_docs,) bool: kept away from training
    /moments/<hook>       (2, 2, d_in) float64: two slots of mean and summed squared deviation
    /norms/<hook>         (2, 516) float64: two slots of the norms' minimum, maximum and histogram
    /precision/<hook>     (2,) float64: two slots of the squared error that the precision made
    /checksums/<dataset>  (n_blocks,) uint32: CRC-32 of each block of 4096 rows

Rows of one document are contiguous and in order. `committed` is the commit counter, three integers:
rows, documents, number of commits. What lies behind it does not count; the statistics of those rows
are in slot (number of commits) mod 2. `complete` is written last of all.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import h5py
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError

__all__ = [
    "CHUNK_ROWS",
    "FORMAT",
    "PRECISION_ERROR",
    "DiskRows",
    "StoreDtype",
    "TokenColumns",
    "as_json",
    "from_disk",
    "numpy_dtype",
    "row_datasets",
    "stored",
    "to_disk",
    "torch_dtype",
    "write_documents",
]

FORMAT = "saetools-acts/1"
CHUNK_ROWS = 4096
PRECISION_ERROR = "precision_error"  # of the manifest; it is known when the store is finished

StoreDtype = Literal["float32", "float16", "bfloat16", "int8"]

_NUMPY: dict[str, type[np.generic]] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.uint16,
    "int8": np.int8,
}
# What rows are once they are read; int8 has no meaning without its scales.
_TORCH = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.float32,
}
_INT8_MAX = 127


class TokenColumns(NamedTuple):
    """What is known of each row beside its activation; all (n,) int32."""

    token_ids: npt.NDArray[np.int32]
    doc: npt.NDArray[np.int32]
    pos: npt.NDArray[np.int32]


class DiskRows(NamedTuple):
    """Rows as they are written: the array (n, d_in), and for int8 the scale of each row (n,)."""

    array: npt.NDArray[Any]
    scales: npt.NDArray[np.float32] | None


def as_json(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures as JSON can hold them: None for one that is not finite."""
    return {name: x if math.isfinite(x) else None for name, x in figures.items()}


def numpy_dtype(dtype: str) -> type[np.generic]:
    """Numpy type that holds `dtype` on disk.

    Raises:
        ConfigError: not a precision that a store can have.
    """
    if dtype not in _NUMPY:
        known = ", ".join(get_args(StoreDtype))
        raise ConfigError(f"a store cannot hold dtype {dtype!r}; choose one of {known}")
    return _NUMPY[dtype]


def torch_dtype(dtype: str) -> torch.dtype:
    """Type of the rows of a store of `dtype` once they are read; float32 for int8."""
    numpy_dtype(dtype)
    return _TORCH[dtype]


def row_datasets(hooks: Sequence[str], dtype: str) -> list[str]:
    """Every dataset that has an entry a row: activations, their scales if any, token columns."""
    parts = ("activations", "scales") if dtype == "int8" else ("activations",)
    return [f"{part}/{hook}" for part in parts for hook in hooks] + list(TokenColumns._fields)


def to_disk(x: Float[Tensor, "n d_in"], dtype: str) -> DiskRows:
    """Activations as they are written.

    bfloat16 becomes its 16 bits. int8 is x / scale rounded to nearest, with scale = max |x| / 127
    of the row, so that no number is off by more than half a scale; a row of zeros has scale 0.
    """
    numpy_dtype(dtype)
    x = x.detach().cpu()
    if dtype == "int8":
        x = x.float()
        scales = x.abs().amax(1) / _INT8_MAX if x.shape[1] else x.new_zeros(len(x))
        steps = x / torch.where(scales > 0, scales, torch.ones_like(scales)).unsqueeze(1)
        whole = steps.nan_to_num_().round_().clamp_(-_INT8_MAX, _INT8_MAX)
        return DiskRows(whole.to(torch.int8).numpy(), scales.numpy())
    x = x.to(_TORCH[dtype]).contiguous()
    return DiskRows((x.view(torch.uint16) if dtype == "bfloat16" else x).numpy(), None)


def from_disk(rows: DiskRows, dtype: str) -> Float[Tensor, "n d_in"]:
    """The inverse of `to_disk`; shares memory with the array, int8 apart."""
    x = torch.from_numpy(rows.array)
    if rows.scales is not None:
        return x * torch.from_numpy(rows.scales).unsqueeze(1)
    return x.view(torch.bfloat16) if dtype == "bfloat16" else x


def stored(x: Float[Tensor, "n d_in"], dtype: str) -> Float[Tensor, "n d_in"]:
    """What a reader will see of `x` written as `dtype`; not finite where that overflows."""
    return from_disk(to_disk(x, dtype), dtype)


def write_documents(
    file: h5py.File,
    *,
    labels: Sequence[str],
    titles: Sequence[str],
    held_out: npt.NDArray[np.bool_],
) -> None:
    """Write the group `/documents`."""
    text = h5py.string_dtype()
    file.create_dataset("documents/label", data=list(labels), dtype=text)
    file.create_dataset("documents/title", data=list(titles), dtype=text)
    file.create_dataset("documents/held_out", data=held_out)
