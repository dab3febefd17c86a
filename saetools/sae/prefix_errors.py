"""The squared errors of nested reconstructions, in one pass over their blocks each way.

Reconstruction l is the sum of blocks 0..l. Its residual is the residual before it minus one block;
the gradient of a block is −2 times the sum of the residuals from its level on.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["prefix_errors"]


def prefix_errors(
    target: Float[Tensor, "n d"], blocks: Float[Tensor, "levels n d"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "n d"]]:
    """Σ over levels of ‖target − Σ_{m ≤ l} blocks[m]‖², and the residual of the last level.

    The sum has gradients to `target` and `blocks`; the residual has none.
    """
    total, residual = _PrefixErrors.apply(target, blocks)  # type: ignore[no-untyped-call]  # torch
    return total, residual


class _PrefixErrors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, target: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        residuals = torch.empty_like(blocks)
        total = blocks.new_zeros(())
        above = target
        for residual, block in zip(residuals, blocks, strict=True):
            torch.sub(above, block, out=residual)
            flat = residual.view(-1)
            total += flat @ flat
            above = residual
        ctx.save_for_backward(residuals)
        last = residuals[-1].clone()
        ctx.mark_non_differentiable(last)
        return total, last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (residuals,) = ctx.saved_tensors
        grad_blocks = residuals * (-2 * grads[0])
        for level in reversed(range(len(residuals) - 1)):
            grad_blocks[level] += grad_blocks[level + 1]
        # The target enters every residual with the opposite sign of block 0.
        return -grad_blocks[0] if ctx.needs_input_grad[0] else None, grad_blocks
