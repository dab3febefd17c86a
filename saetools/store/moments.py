"""Streaming statistics of the rows of a hook: mean, variance, norms, and the error of storing them.

All in float64, and a function of the rows and of how they were cut into commits, so that a resumed
harvest ends with the same bytes as one that was not stopped.

Norms are counted in a fixed histogram of 512 bins, 16 to each doubling, from 2**-12 to 2**20, with
a bin below and one above. A quantile is interpolated inside its bin (or up to the smallest or
largest norm seen), so it is off by less than a bin: a factor of 2**(1/16), 4.5 %.
"""

from dataclasses import dataclass, field

import h5py
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError, StoreError

__all__ = ["N_NORM_FIGURES", "Moments", "create_moments", "read_moments", "write_moments"]

_BINS_PER_DOUBLING = 16
_LOWEST, _HIGHEST = -12, 20  # powers of two
_EDGES = np.exp2(np.arange(_LOWEST * 16, _HIGHEST * 16 + 1) / _BINS_PER_DOUBLING)
N_NORM_FIGURES = 2 + len(_EDGES) + 1  # smallest, largest, below, 512 bins, above
# A block of rows in float64 stays in the cache, and is worth the calls that it takes.
_BLOCK_NUMBERS = 98_304
_BLOCK_ROWS = 128


def _no_norms() -> npt.NDArray[np.float64]:
    figures = np.zeros(N_NORM_FIGURES)
    figures[0] = np.inf
    return figures


@dataclass(frozen=True)
class Moments:
    """Streaming statistics of the rows of one hook, in float64.

    Args:
        count: number of rows.
        mean: shape (d_in,).
        deviation: Σ (x − mean)² over rows, shape (d_in,).
        norms: smallest and largest ‖x‖, then the counts of the histogram, shape (516,).
        squared_error: Σ ‖x − x_hat‖², x as it was given, x_hat as it is stored.
    """

    count: int
    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]
    norms: npt.NDArray[np.float64] = field(default_factory=_no_norms)
    squared_error: float = 0.0

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

    @property
    def precision_error(self) -> float:
        """Share of the variance that the precision on disk lost; lower is better, 0 is exact.

        Σ ‖x − x_hat‖² / Σ ‖x_hat − mean(x_hat)‖² over all rows.
        """
        total = float(self.deviation.sum())
        if total > 0:
            return self.squared_error / total
        return float("inf") if self.squared_error > 0 else 0.0

    def norm_quantile(self, q: float) -> float:
        """The norm ‖x‖ that a share `q` of the rows does not pass, to within 4.5 %.

        Raises:
            ConfigError: `q` is not from 0 to 1.
            StoreError: no norms were counted.
        """
        if not 0 <= q <= 1:
            raise ConfigError(f"a quantile is from 0 to 1, not {q}")
        smallest, largest, counts = float(self.norms[0]), float(self.norms[1]), self.norms[2:]
        total = float(counts.sum())
        if total == 0:
            raise StoreError(
                "there are no norms to take a quantile of: the store has no rows, or an earlier "
                "version of saetools wrote it; harvest it again"
            )
        reached = np.cumsum(counts)
        place = int(np.searchsorted(reached, max(q * total, 1e-9)))
        place = min(place, int(np.flatnonzero(counts)[-1]))
        low = max(smallest, float(_EDGES[place - 1]) if place > 0 else smallest)
        high = min(largest, float(_EDGES[place]) if place < len(_EDGES) else largest)
        share = (q * total - float(reached[place] - counts[place])) / float(counts[place])
        if low <= 0:  # no logarithm there
            return low + (high - low) * share
        return float(low * (high / low) ** min(max(share, 0.0), 1.0))

    def merged(
        self, x: Float[Tensor, "n d_in"], *, given: Float[Tensor, "n d_in"] | None = None
    ) -> "Moments":
        """Moments of these rows and the rows of `x` together.

        Args:
            x: rows as they are stored.
            given: the same rows before they were stored; None if nothing was lost.
        """
        total = self
        size = max(_BLOCK_ROWS, _BLOCK_NUMBERS // max(x.shape[1], 1))
        blocks = torch.empty(2, min(size, len(x)), x.shape[1], dtype=torch.float64)
        for start in range(0, len(x), size):
            part = x[start : start + size]
            rows, squares = blocks[:, : len(part)]
            rows.copy_(part)
            error = 0.0
            if given is not None:
                source = given[start : start + size].detach().cpu().double()
                error = float(source.sub_(rows).square_().sum())
            total = total.joined(_of_block(rows, squares, error))
        return total

    def joined(self, other: "Moments") -> "Moments":
        """Moments of the rows of both (Chan et al. 1979)."""
        if other.count == 0:
            return self
        count = self.count + other.count
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + step * (other.count / count),
            self.deviation + other.deviation + step**2 * (self.count * other.count / count),
            np.concatenate(
                [
                    [min(self.norms[0], other.norms[0]), max(self.norms[1], other.norms[1])],
                    self.norms[2:] + other.norms[2:],
                ]
            ),
            self.squared_error + other.squared_error,
        )


def _of_block(rows: Tensor, squares: Tensor, squared_error: float) -> Moments:
    """Moments of float64 rows (n, d_in), n > 0; overwrites them, and `squares` of that shape."""
    norms = torch.mul(rows, rows, out=squares).sum(1).sqrt_().numpy()
    mean = rows.mean(0)
    torch.sub(rows, mean, out=rows)
    deviation = torch.mul(rows, rows, out=squares).sum(0)
    places = np.searchsorted(_EDGES, norms, side="right")
    counts = np.bincount(places, minlength=len(_EDGES) + 1).astype(np.float64)
    figures = np.concatenate([[norms.min(), norms.max()], counts])
    return Moments(len(rows), mean.numpy(), deviation.numpy(), figures, squared_error)


def create_moments(file: h5py.File, hook: str, d_in: int) -> None:
    """Create the datasets that hold the moments of a hook, both slots those of no rows."""
    file.create_dataset(f"moments/{hook}", data=np.zeros((2, 2, d_in)))
    file.create_dataset(f"norms/{hook}", data=np.stack([_no_norms()] * 2))
    file.create_dataset(f"precision/{hook}", data=np.zeros(2))


def write_moments(file: h5py.File, hook: str, moments: Moments, *, slot: int) -> None:
    """Write one of the two slots."""
    file[f"moments/{hook}"][slot] = np.stack([moments.mean, moments.deviation])
    file[f"norms/{hook}"][slot] = moments.norms
    file[f"precision/{hook}"][slot] = moments.squared_error


def read_moments(file: h5py.File, hook: str, *, count: int, slot: int) -> Moments:
    """Read one of the two slots; norms and error are empty in a store that has none."""
    mean, deviation = file[f"moments/{hook}"][slot]
    norms = file[f"norms/{hook}"][slot] if "norms" in file else _no_norms()
    error = float(file[f"precision/{hook}"][slot]) if "precision" in file else 0.0
    return Moments(count, mean, deviation, norms, error)
