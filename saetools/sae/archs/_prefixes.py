"""Prefixes of a dictionary: their sizes as a setting, and how they are drawn at random."""

from itertools import pairwise

import torch
from pydantic import Field, model_validator

from saetools.sae.config import SAEConfig

__all__ = ["WithWidths", "drawn_prefixes"]

_FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)


class WithWidths(SAEConfig):
    """An SAE that reconstructs at several widths."""

    widths: tuple[int, ...] = Field(
        default=(),
        description="prefix sizes, increasing, the last n_latents; default 1/16, 1/8, 1/4, 1/2, 1",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_widths(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("widths") and "n_latents" in data:
            n = data["n_latents"]
            if isinstance(n, int):
                parts = sorted({max(1, int(n * f)) for f in _FRACTIONS} | {n})
                return {**data, "widths": tuple(parts)}
        return data

    @model_validator(mode="after")
    def _widths_nest(self) -> "WithWidths":
        rising = all(a < b for a, b in pairwise(self.widths))
        if not rising or self.widths[0] < 1 or self.widths[-1] != self.n_latents:
            raise ValueError(
                f"widths are {list(self.widths)}; they must be positive, strictly increasing and "
                f"end at n_latents ({self.n_latents})"
            )
        return self


def drawn_prefixes(n_latents: int, *, n_prefixes: int, draw: int) -> tuple[int, ...]:
    """Sizes of `n_prefixes` different prefixes, rising, the last n_latents.

    The others are drawn without replacement, size l with a chance in proportion to √l − √(l − 1), a
    Pareto law cut off at n_latents. The same `draw` gives the same sizes on every machine.
    """
    sizes = torch.arange(n_latents, dtype=torch.float64)
    chances = (sizes[1:].sqrt() - sizes[:-1].sqrt()).float()  # of 1 … n_latents − 1
    generator = torch.Generator().manual_seed(draw)
    if n_prefixes == 1:
        return (n_latents,)
    drawn = torch.multinomial(chances, n_prefixes - 1, generator=generator) + 1
    return (*sorted(drawn.tolist()), n_latents)
