"""Streaming means and covariances of rows with their classes, in float64 (Chan et al. 1979)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.errors import ShapeError

__all__ = ["CrossMoments", "shrunk"]


@dataclass(frozen=True)
class CrossMoments:
    """Moments of x (n, d) and of z (n, k), the one-hot classes.

    Args:
        count: number of rows.
        mean_x, mean_z: means, (d,) and (k,).
        xx, xz, zz: sums of products of deviations from the means, (d, d), (d, k), (k, k).
    """

    count: int
    mean_x: Float[Tensor, " d"]
    mean_z: Float[Tensor, " k"]
    xx: Float[Tensor, "d d"]
    xz: Float[Tensor, "d k"]
    zz: Float[Tensor, "k k"]

    @staticmethod
    def empty(d_in: int, n_classes: int) -> "CrossMoments":
        """Moments of no rows."""
        d, k = (d_in,), (n_classes,)
        zeros = [torch.zeros(shape, dtype=torch.float64) for shape in (d, k, d + d, d + k, k + k)]
        return CrossMoments(0, *zeros)

    def merged(self, x: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> "CrossMoments":
        """Moments of these rows and those of `x`, whose classes are `labels`."""
        if x.ndim != 2 or x.shape[1] != len(self.mean_x) or labels.shape != (len(x),):
            raise ShapeError(
                f"moments of width {len(self.mean_x)} take rows (n, {len(self.mean_x)}) and one "
                f"label a row; got {tuple(x.shape)} and {tuple(labels.shape)}"
            )
        if len(x) == 0:
            return self
        rows = x.detach().cpu().double()
        z = torch.nn.functional.one_hot(labels.cpu().long(), len(self.mean_z)).double()
        mean_x, mean_z = rows.mean(0), z.mean(0)
        rows, z = rows - mean_x, z - mean_z
        part = CrossMoments(len(rows), mean_x, mean_z, rows.T @ rows, rows.T @ z, z.T @ z)
        return self.joined(part)

    def joined(self, other: "CrossMoments") -> "CrossMoments":
        """Moments of the rows of both."""
        count = self.count + other.count
        share, weight = other.count / count, self.count * other.count / count
        dx, dz = other.mean_x - self.mean_x, other.mean_z - self.mean_z
        return CrossMoments(
            count,
            self.mean_x + share * dx,
            self.mean_z + share * dz,
            self.xx + other.xx + weight * torch.outer(dx, dx),
            self.xz + other.xz + weight * torch.outer(dx, dz),
            self.zz + other.zz + weight * torch.outer(dz, dz),
        )

    @property
    def cov_x(self) -> Float[Tensor, "d d"]:
        """Covariance of x."""
        return self.xx / max(self.count, 1)

    @property
    def correlation(self) -> Float[Tensor, "d k"]:
        """Covariance of x with the whitened classes.

        Whitening z leaves the span of the columns as it is, and gives them the unit of x.
        """
        values, vectors = torch.linalg.eigh(self.zz / max(self.count, 1))
        kept = values > 1e-12
        whiten = vectors[:, kept] * values[kept].rsqrt()  # (k, rank)
        found: Tensor = self.xz / max(self.count, 1) @ whiten
        return found


def shrunk(cov: Float[Tensor, "d d"], count: int) -> tuple[Float[Tensor, "d d"], float]:
    """The covariance drawn towards a multiple of the identity, and the weight of the sample's own.

        α = 1 − (tr(S)²/n) / (‖S‖² − tr(S)²/d)      Σ = α S + (1 − α) tr(S)/d · I,   α in [0, 1]

    Bodnar, Gupta and Parolya 2014 (arXiv:1308.2608): optimal where d and n grow together.
    """
    d = len(cov)
    trace = cov.trace()
    spread = (cov**2).sum() - trace**2 / d
    floor = torch.finfo(torch.float64).eps * (cov**2).sum()
    alpha = 1 - (trace**2 / count) / spread if bool(spread > floor) else cov.new_zeros(())
    alpha = alpha.clamp(0, 1)
    return alpha * cov + (1 - alpha) * (trace / d) * torch.eye(d, dtype=cov.dtype), float(alpha)
