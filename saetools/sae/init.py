"""Where training starts: the decoder bias from data, everything else from the seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["geometric_median", "only_part", "unit_rows"]

_BLOCK_ROWS = 4096

_part: ContextVar[tuple[int, int]] = ContextVar("saetools_part_of_a_dictionary", default=(0, 1))


@contextmanager
def only_part(rank: int, size: int) -> Iterator[None]:
    """Within the block SAEs are built with the latents of one of `size` processes alone."""
    token = _part.set((rank, size))
    try:
        yield
    finally:
        _part.reset(token)


def unit_rows(n: int, width: int, generator: torch.Generator) -> Float[Tensor, "m width"]:
    """Random rows of norm 1: all `n`, or within `only_part` those of one process.

    They are drawn a block at a time, so that a part takes no more memory than it is large, and has
    the same numbers as in the whole.
    """
    rank, size = _part.get()
    first, stop = n * rank // size, n * (rank + 1) // size
    kept = []
    for start in range(0, n, _BLOCK_ROWS):
        end = min(start + _BLOCK_ROWS, n)
        rows = torch.randn(end - start, width, generator=generator)
        own = rows[max(first - start, 0) : max(stop - start, 0)]
        if len(own):
            kept.append(own / own.norm(dim=1, keepdim=True).clamp_min(1e-12))
    return torch.cat(kept)


def geometric_median(
    x: Float[Tensor, "n d_in"], *, steps: int = 100, tolerance: float = 1e-5
) -> Float[Tensor, " d_in"]:
    """The point with the least summed distance to the rows of `x`, by Weiszfeld's iteration.

    It starts at the mean and stops when a step moves less than `tolerance` of the mean distance.
    """
    median = x.mean(0)
    for _ in range(steps):
        distance = (x - median).norm(dim=1).clamp_min(1e-6)
        weight = distance.reciprocal()
        moved: Tensor = (weight @ x) / weight.sum()
        if float((moved - median).norm()) < tolerance * float(distance.mean()):
            return moved
        median = moved
    return median
