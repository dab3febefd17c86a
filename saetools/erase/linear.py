"""What linear erasers share: an oblique or orthogonal projection about a mean.

    r(x) = x − left · right · (x − mean)      left (d, rank), right (rank, d), right · left = I

Applied in float64, since class means that are equal only to float32 can be read by a probe that
scales them up.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from saetools.erase.base import AffineMap, Eraser, EraserConfig
from saetools.erase.cross_moments import CrossMoments
from saetools.erase.rows import LabelledRows, Place, text_means

__all__ = ["LinearConfig", "LinearEraser", "level_rows", "moments_of", "orthonormal"]


class LinearConfig(EraserConfig):
    """What linear erasers have in common."""

    level: Literal["row", "text"] = Field(
        default="row", description="equal class means of rows (tokens), or of texts' mean rows"
    )


class LinearEraser(Eraser):
    """Takes a subspace out of every row."""

    Config = LinearConfig
    idempotent = True

    def apply(self, x: Float[Tensor, "n d_in"], place: Place) -> Float[Tensor, "n d_in"]:  # noqa: ARG002
        """Project, in float64."""
        mean, left, right = (self.tensors[k] for k in ("mean", "left", "right"))
        rows = x.double()
        return (rows - (rows - mean) @ right.T @ left.T).float()

    @property
    def affine(self) -> AffineMap:
        """The projection as a matrix and a shift."""
        mean, left, right = (self.tensors[k] for k in ("mean", "left", "right"))
        taken = left @ right
        return AffineMap(
            torch.eye(len(mean), dtype=mean.dtype).to(mean.device) - taken, taken @ mean
        )


def level_rows(rows: LabelledRows, config: Any) -> LabelledRows:
    """The rows whose class means are to be equal."""
    return text_means(rows) if config.level == "text" else rows


def moments_of(rows: LabelledRows) -> CrossMoments:
    """Moments of rows with one-hot classes."""
    n_classes = int(rows.labels.max()) + 1
    return CrossMoments.empty(rows.d_in, n_classes).merged(rows.x, rows.labels)


def orthonormal(
    columns: Float[Tensor, "d k"], *, tolerance: float
) -> tuple[Float[Tensor, "d rank"], Float[Tensor, " rank"]]:
    """A basis of the columns' span, and its singular values; those below the tolerance are left."""
    basis, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    kept = sizes > tolerance
    return basis[:, kept], sizes[kept]
