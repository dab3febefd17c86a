"""Nested reconstructions on the torch path: a few tokens at a time, so that they stay in the cache.

For each piece of tokens the decoded levels become residuals in place, then sums of residuals in
place, and the dot products read them while they are there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from saetools_kernels._bags import bag_sum
from saetools_kernels._checks import accumulator_dtype
from saetools_kernels.gathered_dots.cpu import bag_dots

__all__ = ["prefix_decode", "residual_sums"]

_PIECE_BYTES = 2 * 2**20


def prefix_decode(
    values: Tensor,
    latents: Tensor,
    bounds: Tensor,
    W: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    sources: Tensor,
    residual: Tensor,
) -> tuple[Tensor, Tensor]:
    """Write sources and residual; return errors (levels,) and dots (nnz,)."""
    dtype = accumulator_dtype(values, W, target)
    n, n_levels = len(target), len(weights)
    W_wide = W.to(dtype).contiguous()
    level_weights = weights.tolist()
    errors = torch.zeros(n_levels, dtype=dtype, device=W.device)
    dots = W.new_empty(len(values), dtype=dtype)
    size = max(1, _PIECE_BYTES // max(1, n_levels * W.shape[1] * dtype.itemsize))
    cuts = [*range(0, n, size), n]
    ends = bounds[torch.tensor(cuts, device=bounds.device) * n_levels].tolist()
    for i in range(len(cuts) - 1):
        entries, bags = slice(*ends[i : i + 2]), slice(*(n_levels * cut for cut in cuts[i : i + 2]))
        offsets = bounds[bags.start : bags.stop + 1] - entries.start
        piece = sources[bags]
        wide = piece if piece.dtype == dtype else piece.new_empty(piece.shape, dtype=dtype)
        bag_sum(values[entries].to(dtype), latents[entries], offsets, W_wide, out=wide)
        tokens = slice(cuts[i], cuts[i + 1])
        levels = wide.view(-1, n_levels, W.shape[1]).unbind(1)
        errors += _subtract(target[tokens], levels)
        residual[tokens] = levels[-1]
        _add_up(levels, level_weights)
        dots[entries] = bag_dots(wide, W_wide, latents[entries], offsets)
        if wide is not piece:
            piece.copy_(wide)
    return errors, dots


@torch.no_grad()
def residual_sums(blocks: Tensor, target: Tensor, weights: Sequence[float]) -> Tensor:
    """Turn decoded levels into sources, in place; return errors (levels,).

    For blocks that are not decoded here alone, but added up over processes.

    Args:
        blocks: decoded levels, shape (n, levels, d); sources afterwards.
        target: what to reconstruct, shape (n, d).
        weights: a number a level.
    """
    levels = blocks.unbind(1)
    errors = _subtract(target, levels)
    _add_up(levels, list(weights))
    return errors


def _subtract(target: Tensor, levels: tuple[Tensor, ...]) -> Tensor:
    """Turn decoded levels into residuals, in place; return the sum of their squares a level."""
    above, errors = target, []
    for block in levels:
        above = torch.sub(above, block, out=block)
        # By rows first: the order of addition is then the same for any number of threads.
        errors.append(torch.linalg.vecdot(block, block).sum())
    return torch.stack(errors)


def _add_up(levels: tuple[Tensor, ...], weights: list[float]) -> None:
    """Turn residuals into Σ of the weighted residuals from a level on, in place."""
    if weights[-1] != 1.0:
        levels[-1].mul_(weights[-1])
    for level in reversed(range(len(levels) - 1)):
        torch.add(levels[level + 1], levels[level], alpha=weights[level], out=levels[level])
