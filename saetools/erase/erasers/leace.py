"""LEACE: the least-squares smallest edit after which no linear probe beats a constant.

    r(x) = x − W⁺ U Uᵀ W (x − μ)      W = Σ_xx^(−1/2),   U an orthonormal basis of W Σ_xz

Equal class means and linear guardedness are the same thing, for every convex loss. It says nothing
of non-linear probes, nor of what later layers make of the rows. Belrose et al. 2023
(arXiv:2306.03819). Classes are whitened before the singular values are taken, which leaves U as it
is and makes `tolerance` a correlation, whatever the share of the concept.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from saetools.erase.base import ERASERS, Learned
from saetools.erase.cross_moments import CrossMoments, shrunk
from saetools.erase.linear import LinearConfig, LinearEraser, level_rows, moments_of, orthonormal
from saetools.erase.report import EraserReport
from saetools.erase.rows import LabelledRows
from saetools.errors import ConfigError
from saetools.sae import SAE

__all__ = ["Leace", "LeaceConfig", "leace_of_stream"]


class LeaceConfig(LinearConfig):
    """The two settings of the reference implementation."""

    shrink: bool = Field(
        default=True, description="draw the covariance towards the identity where rows are few"
    )
    tolerance: float = Field(
        default=0.01, ge=0, description="canonical correlations below this are left in"
    )


@ERASERS.register("leace")
class Leace(LinearEraser):
    """Makes class means equal at the least cost."""

    Config = LeaceConfig

    @classmethod
    def learn(cls, rows: LabelledRows, config: Any, sae: SAE | None) -> Learned:  # noqa: ARG003
        """From the moments of the rows, or of the texts' means."""
        return _learned(moments_of(level_rows(rows, config)), config)


def leace_of_stream(
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    d_in: int,
    n_classes: int = 2,
    hook_name: str | None = None,
    config: LeaceConfig | None = None,
) -> Leace:
    """Fit LEACE in one pass over batches of rows (n, d_in) and labels (n,), none of them kept.

    The report has no sizes of the edit, which would take a second pass.

    Raises:
        ConfigError: fewer than two classes were seen.
    """
    moments = CrossMoments.empty(d_in, n_classes)
    for x, labels in batches:
        moments = moments.merged(x, labels)
    seen = moments.mean_z * moments.count
    if int((seen > 0.5).sum()) < 2:
        raise ConfigError(
            f"LEACE makes the means of classes equal; {moments.count:,} rows of "
            f"{int((seen > 0.5).sum())} class came; give rows of at least two"
        )
    config = config or LeaceConfig()
    found = _learned(moments, config)
    n_retain = round(float(seen[0]))
    report = EraserReport(
        "leace", hook_name, None, moments.count - n_retain, n_retain, 0, 0,
        found.evidence, found.thresholds, found.rejected, figures=found.figures,
        notes=("fitted on a stream of rows; the size of the edit was not measured",),
    )  # fmt: skip
    return Leace(config, found.tensors, report)


def _learned(moments: CrossMoments, config: LeaceConfig) -> Learned:
    cov, alpha = shrunk(moments.cov_x, moments.count) if config.shrink else (moments.cov_x, 1.0)
    whiten, unwhiten = _roots(cov)
    basis, sizes = orthonormal(whiten @ moments.correlation, tolerance=config.tolerance)
    if not len(sizes):
        raise ConfigError(
            f"LEACE found no direction of the concept: every canonical correlation is below "
            f"tolerance = {config.tolerance:g}; lower it, or check that the labels say anything"
        )
    tensors = {"mean": moments.mean_x, "left": unwhiten @ basis, "right": basis.T @ whiten}
    evidence = tuple(
        {"direction": i, "canonical_correlation": float(size)} for i, size in enumerate(sizes)
    )
    figures = {"rank": len(sizes), "weight of the sample covariance": alpha}
    return Learned(tensors, evidence, {"tolerance": config.tolerance}, figures=figures)


def _roots(cov: Float[Tensor, "d d"]) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d d"]]:
    """Σ^(−1/2) and Σ^(1/2), as pseudo-inverses of one another."""
    values, vectors = torch.linalg.eigh(cov)
    kept = values > values.max() * len(values) * torch.finfo(values.dtype).eps
    root = values.clamp_min(0).sqrt() * kept
    inverse = torch.where(kept, root, 1.0).reciprocal() * kept
    return vectors * inverse @ vectors.T, vectors * root @ vectors.T
