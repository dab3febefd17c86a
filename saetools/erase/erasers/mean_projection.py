"""Mean projection: the span of the differences of class means is projected out, orthogonally.

    r(x) = x − V Vᵀ (x − μ)      V an orthonormal basis of Σ_xz

LEACE with W = I (its `method="orth"`; SAL, Shao et al. 2023, arXiv:2203.07893). Linearly guarded
as LEACE is, at a larger cost where directions are correlated; without an inverse, so it needs few
rows.
"""

from typing import Any

from pydantic import Field

from saetools.erase.base import ERASERS, Learned
from saetools.erase.linear import LinearConfig, LinearEraser, level_rows, moments_of, orthonormal
from saetools.erase.rows import LabelledRows
from saetools.errors import ConfigError
from saetools.sae import SAE

__all__ = ["MeanProjection", "MeanProjectionConfig"]


class MeanProjectionConfig(LinearConfig):
    """A direction has to be longer than rounding errors."""

    tolerance: float = Field(
        default=1e-6, ge=0, description="least length of a direction, as a share of ‖x‖'s RMS"
    )


@ERASERS.register("mean_projection")
class MeanProjection(LinearEraser):
    """Projects the differences of class means out."""

    Config = MeanProjectionConfig

    @classmethod
    def learn(cls, rows: LabelledRows, config: Any, sae: SAE | None) -> Learned:  # noqa: ARG003
        """From the class means of the rows, or of the texts' means."""
        moments = moments_of(level_rows(rows, config))
        scale = float(moments.cov_x.trace().sqrt())
        basis, sizes = orthonormal(moments.correlation, tolerance=config.tolerance * scale)
        if not len(sizes):
            raise ConfigError(
                "the classes have equal means already, so there is nothing to project out; check "
                "that the labels say anything"
            )
        evidence = tuple(
            {"direction": i, "length": float(size), "share_of_rms": float(size) / scale}
            for i, size in enumerate(sizes)
        )
        tensors = {"mean": moments.mean_x, "left": basis, "right": basis.T.contiguous()}
        return Learned(
            tensors, evidence, {"tolerance": config.tolerance}, figures={"rank": len(sizes)}
        )
