"""What every library is asked for, in words that none of them owns."""

from typing import NamedTuple

__all__ = ["ARCHS", "Size", "block_fractions", "widths"]

ARCHS = ("topk", "batch_topk", "matryoshka")

_BLOCKS = (1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


class Size(NamedTuple):
    """Tokens a batch, width of the activations, size of the dictionary, active latents a token."""

    n: int
    d_in: int
    n_latents: int
    k: int


def block_fractions() -> list[float]:
    """Shares of the dictionary that the five blocks of a Matryoshka SAE have."""
    return list(_BLOCKS)


def widths(n_latents: int) -> list[int]:
    """The five prefix sizes that those blocks make."""
    sizes = [round(n_latents * share) for share in _BLOCKS[:-1]]
    return [sum(sizes[: i + 1]) for i in range(len(sizes))] + [n_latents]
