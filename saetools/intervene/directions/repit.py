"""RepIt: what a target direction has of its own, with what it shares with others taken out.

Siu et al. 2025, arXiv:2509.13281. In coordinates whitened by the others' second moment C = LLᵀ, the
part of L⁻¹v inside the span of the others is shrunk by a = 1 - √(1 - ρ), and the rest goes back
through L. ρ is the share of the others' energy that is removed.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError, ShapeError
from saetools.intervene.directions._base import Direction

__all__ = ["repit"]


def repit(target: Direction, others: Sequence[Direction], *, rho: float = 0.75) -> Direction:
    """The target direction isolated from related ones.

    Args:
        target: the concept's direction, e.g. a difference of means.
        others: directions of what should stay as it is, fewer than d_in.
        rho: share of the others' energy to remove, 0-1: 0 gives the target as it is, to the last
            bit, 1 a direction orthogonal to all others. Choose the smallest that no longer moves
            the others; the paper finds 0.1 of effect on them acceptable.

    Returns:
        The direction; its info has the cosine with each of the others, before and after.
    """
    if not 0 <= rho <= 1:
        raise ConfigError(f"repit takes rho from 0 to 1, the share to remove; got {rho}")
    if not others:
        raise ConfigError("repit needs at least one other direction to isolate from; got none")
    widths = {len(direction) for direction in (target, *others)}
    if len(widths) != 1:
        raise ShapeError(
            f"repit takes directions of one width; got {sorted(widths)}; find them at one hook"
        )
    found = Direction(target.tensor if rho == 0 else _isolated(target.tensor, others, rho), "repit")
    info = {
        **target.info,
        "rho": rho,
        "cosines_before": [target.cosine(other) for other in others],
        "cosines_after": [found.cosine(other) for other in others],
    }
    return Direction(found.vector, "repit", target.hook_name, info)


def _isolated(
    target: Float[Tensor, " d_in"], others: Sequence[Direction], rho: float
) -> Float[Tensor, " d_in"]:
    # The second moment has the rank of the few others, and a small ridge: whitening by it stretches
    # every other direction a hundredfold, which float32 does not survive.
    rows = torch.stack([other.tensor for other in others]).double()  # (m, d_in)
    weights = 1 / (rows.norm(dim=-1) + 1e-8)
    rows = (weights / weights.sum()).unsqueeze(1) * rows
    ridge = 1e-4 * rows.square().mean() + 1e-12
    second = rows.T @ rows / len(rows) + ridge * torch.eye(rows.shape[1], dtype=rows.dtype)
    lower = torch.linalg.cholesky(second)
    white = torch.linalg.solve_triangular(lower, target.double().unsqueeze(1), upper=False)
    span = torch.linalg.qr(torch.linalg.solve_triangular(lower, rows.T, upper=False)).Q
    shared = span @ (span.T @ white)
    isolated: Tensor = lower @ (white - (1 - (1 - rho) ** 0.5) * shared)
    return isolated.squeeze(1)
