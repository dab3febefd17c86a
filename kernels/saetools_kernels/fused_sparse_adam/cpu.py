"""Adam on the torch path: a block of rows at a time, so that gradients stay in the cache.

A block's gradient is summed, made orthogonal to the rows, used and forgotten before the next one
begins; the matrix and its moments cross the memory bus once.
"""

import torch
from torch import Tensor
from torch.optim.adam import adam

from saetools_kernels.fused_sparse_adam.gradient import RowGradient
from saetools_kernels.fused_sparse_adam.settings import AdamSettings

__all__ = ["fused_sparse_adam", "squared_norm"]

_BLOCK_BYTES = 2 * 2**20  # of each of gradient, rows and two moments: 8 MiB together


@torch.no_grad()
def fused_sparse_adam(
    W: Tensor, m: Tensor, v: Tensor, gradient: RowGradient, settings: AdamSettings
) -> None:
    """Change W, m and v in place by one step."""
    for start, stop in _blocks(W):
        grad = _gradient(W[start:stop], start, stop, gradient, settings)
        block = (W[start:stop], m[start:stop], v[start:stop])
        moved = (grad != 0).any(1).nonzero().squeeze(1) if settings.lazy else None
        rows, first, second = block if moved is None else (part[moved] for part in block)
        grad = grad if moved is None else grad[moved]
        wide = (first, second) if m.dtype == W.dtype else (first.to(W.dtype), second.to(W.dtype))
        adam(
            [rows], [grad], [wide[0]], [wide[1]], [],
            # torch counts the step up itself, once a call.
            [torch.tensor(float(settings.step - 1), device=W.device)],
            fused=True, amsgrad=False, maximize=False, weight_decay=0.0,
            lr=settings.lr, beta1=settings.beta1, beta2=settings.beta2, eps=settings.eps,
        )  # fmt: skip
        if m.dtype != W.dtype:
            first.copy_(wide[0])
            second.copy_(wide[1])
        if settings.unit_rows:
            rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(1e-12))
        if moved is not None:
            for part, new in zip(block, (rows, first, second), strict=True):
                part[moved] = new


@torch.no_grad()
def squared_norm(W: Tensor, gradient: RowGradient, *, unit_rows: bool) -> Tensor:
    """Return Σ of the squares of the gradient that a step would take, a scalar."""
    settings = AdamSettings(lr=0.0, step=1, unit_rows=unit_rows)
    total = W.new_zeros(())
    for start, stop in _blocks(W):
        total += _gradient(W[start:stop], start, stop, gradient, settings).square_().sum()
    return total


def _blocks(W: Tensor) -> list[tuple[int, int]]:
    size = max(1, _BLOCK_BYTES // max(1, W.shape[1] * W.element_size()))
    return [(start, min(start + size, len(W))) for start in range(0, len(W), size)]


def _gradient(
    rows: Tensor, start: int, stop: int, gradient: RowGradient, settings: AdamSettings
) -> Tensor:
    grad = gradient.block(start, stop, like=rows)
    if settings.scale != 1.0:
        grad.mul_(settings.scale)
    if settings.unit_rows:
        along = torch.linalg.vecdot(grad, rows).unsqueeze(1)
        grad.addcmul_(along, rows, value=-1.0)
    return grad
