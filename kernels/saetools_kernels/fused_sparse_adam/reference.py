"""Adam on a latent-major matrix as the definition reads: the gradient whole, one line a formula."""

import torch
from torch import Tensor

from saetools_kernels.fused_sparse_adam.gradient import RowGradient
from saetools_kernels.fused_sparse_adam.settings import AdamSettings

__all__ = ["fused_sparse_adam"]


@torch.no_grad()
def fused_sparse_adam(
    W: Tensor, m: Tensor, v: Tensor, gradient: RowGradient, settings: AdamSettings
) -> None:
    """Change W, m and v in place by one step."""
    s = settings
    grad = gradient.block(0, len(W), like=W) * s.scale
    if s.unit_rows:
        grad = grad - (grad * W).sum(1, keepdim=True) * W
    first = s.beta1 * m.to(W.dtype) + (1 - s.beta1) * grad
    second = s.beta2 * v.to(W.dtype) + (1 - s.beta2) * grad**2
    if s.lazy:
        idle = ~(grad != 0).any(1, keepdim=True)
        first, second = torch.where(idle, m, first), torch.where(idle, v, second)
    m.copy_(first)
    v.copy_(second)
    corrected = (second / (1 - s.beta2**s.step)).sqrt() + s.eps
    new = W - s.lr / (1 - s.beta1**s.step) * first / corrected
    if s.unit_rows:
        new = new / new.norm(dim=1, keepdim=True).clamp_min(1e-12)
    W.copy_(torch.where(idle, W, new) if s.lazy else new)
