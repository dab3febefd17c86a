"""Nested reconstructions as the definition reads: decode, add levels up, subtract."""

import torch
from torch import Tensor

from saetools_kernels._checks import accumulator_dtype
from saetools_kernels.sparse_decode.reference import bag_decode

__all__ = ["prefix_decode", "prefix_loss"]


def prefix_decode(
    values: Tensor, latents: Tensor, bounds: Tensor, W: Tensor, target: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return errors (levels,), sources (n · levels, d), last residual (n, d), dots (nnz,)."""
    residuals = _residuals(values, latents, bounds, W, target, len(weights))
    weighted = weights.unsqueeze(1) * residuals
    sources = weighted.flip(1).cumsum(1).flip(1).reshape(-1, W.shape[1]).to(W.dtype)
    bag = torch.arange(len(sources), device=W.device).repeat_interleave(bounds.diff().long())
    dots = (sources[bag] * W[latents]).sum(-1)
    errors = _errors(residuals)
    return errors, sources, residuals[:, -1].to(W.dtype), dots.to(errors.dtype)


def prefix_loss(
    values: Tensor, latents: Tensor, bounds: Tensor, W: Tensor, target: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ_l weights[l] · errors[l], the errors, and the last residual."""
    residuals = _residuals(values, latents, bounds, W, target, len(weights))
    errors = _errors(residuals)
    return (weights * errors).sum(), errors.detach(), residuals[:, -1].to(W.dtype).detach()


def _residuals(
    values: Tensor, latents: Tensor, bounds: Tensor, W: Tensor, target: Tensor, n_levels: int
) -> Tensor:
    blocks = bag_decode(values, latents, bounds, W).view(len(target), n_levels, W.shape[1])
    return target.unsqueeze(1) - blocks.cumsum(1)


def _errors(residuals: Tensor) -> Tensor:
    return residuals.to(accumulator_dtype(residuals)).square().sum((0, 2))
