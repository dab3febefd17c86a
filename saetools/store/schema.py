"""The layout of an activation store, `saetools-acts/1`, and the numbers that describe it.

docs/formats.md says the same in prose. One HDF5 file:

    /                     attributes: format, manifest (JSON), complete, committed
    /activations/<hook>   (n_tokens, d_in) float32, float16, or uint16 holding bfloat16
    /token_ids /doc /pos  (n_tokens,) int32: the token, its document, its place in the sequence
    /documents/label, /documents/title     (n_docs,) text, empty where there is none
    /documents/held_out   (n_docs,) bool: kept away from training
    /moments/<hook>       (2, 2, d_in) float64: two slots of mean and summed squared deviation

Rows of one document are contiguous and in order. `committed` is the commit counter, three integers:
rows, documents, number of commits. What lies behind it was being written when the harvest stopped
and does not count; the moments of those rows are in slot (number of commits) mod 2. `complete` is
written last of all.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch

from saetools.errors import ConfigError

__all__ = [
    "CHUNK_ROWS",
    "FORMAT",
    "Moments",
    "StoreDtype",
    "TokenColumns",
    "from_disk",
    "numpy_dtype",
    "to_disk",
]

FORMAT = "saetools-acts/1"
CHUNK_ROWS = 4096

StoreDtype = Literal["float32", "float16", "bfloat16"]

_NUMPY: dict[str, type[np.generic]] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.uint16,
}
_TORCH = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class TokenColumns(NamedTuple):
    """What is known of each row beside its activation; all (n,) int32."""

    token_ids: npt.NDArray[np.int32]
    doc: npt.NDArray[np.int32]
    pos: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Moments:
    """Streaming statistics of the rows of one hook, in float64.

    Args:
        count: number of rows.
        mean: shape (d_in,).
        deviation: Σ (x − mean)² over rows, shape (d_in,).
    """

    count: int
    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, d_in: int) -> "Moments":
        """Moments of no rows."""
        return cls(0, np.zeros(d_in), np.zeros(d_in))

    @property
    def variance(self) -> npt.NDArray[np.float64]:
        """Population variance of each dimension, shape (d_in,)."""
        return self.deviation / max(self.count, 1)

    @property
    def mean_sq_norm(self) -> float:
        """Mean of ‖x‖²."""
        return float(self.variance.sum() + self.mean @ self.mean)

    def merged(self, x: torch.Tensor) -> "Moments":
        """Moments of these rows and the rows of `x` (n, d_in) together (Chan et al. 1979)."""
        if len(x) == 0:
            return self
        rows = x.double()
        mean = rows.mean(0)
        deviation = (rows - mean).square().sum(0).numpy()
        count = self.count + len(rows)
        step = mean.numpy() - self.mean
        return Moments(
            count,
            self.mean + step * (len(rows) / count),
            self.deviation + deviation + step**2 * (self.count * len(rows) / count),
        )


def numpy_dtype(dtype: str) -> type[np.generic]:
    """Numpy type that holds `dtype` on disk.

    Raises:
        ConfigError: not a precision that a store can have.
    """
    if dtype not in _NUMPY:
        known = ", ".join(get_args(StoreDtype))
        raise ConfigError(f"a store cannot hold dtype {dtype!r}; choose one of {known}")
    return _NUMPY[dtype]


def to_disk(x: torch.Tensor, dtype: str) -> npt.NDArray[np.generic]:
    """Activations as the array that is written; bfloat16 becomes its 16 bits."""
    x = x.detach().to("cpu", _TORCH[dtype])
    if dtype == "bfloat16":
        return x.view(torch.uint16).numpy()
    return x.numpy()


def from_disk(array: npt.NDArray[np.generic], dtype: str) -> torch.Tensor:
    """The inverse of `to_disk`; shares memory with `array`."""
    x = torch.from_numpy(array)
    return x.view(torch.bfloat16) if dtype == "bfloat16" else x
