"""What the weights alone tell: rows of unusual length, decoder rows that are nearly the same."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.repro import generator

__all__ = ["DUPLICATE_COSINE", "Duplicates", "Spread", "find_duplicates"]

DUPLICATE_COSINE = 0.95
"""Decoder rows whose cosine is above this are duplicates of each other."""

ALL_PAIRS_UP_TO = 16_384
"""Up to so many latents every pair is compared; beyond, a sample of rows with all others."""

_FENCE = 3.0
_NARROWEST = 0.01
_BLOCK_VALUES = 8_388_608
_N_SHOWN = 10


class Spread(NamedTuple):
    """How a positive quantity is spread, and how much of it lies far outside.

    The fences are Tukey's outer ones: three interquartile ranges below the lower and above the
    upper quartile, and at least 1 % of the median away from it, so that rows of one length, which
    differ by rounding alone, have no outliers.
    """

    n: int
    smallest: float
    median: float
    largest: float
    low_fence: float
    high_fence: float
    outlier_fraction: float

    @classmethod
    def of(cls, values: Float[Tensor, " n"]) -> "Spread":
        """Spread of at least one value."""
        values = values.double().cpu().sort().values
        lower, median, upper = (_quantile(values, q) for q in (0.25, 0.5, 0.75))
        reach = _FENCE * (upper - lower)
        low = min(lower - reach, median * (1 - _NARROWEST))
        high = max(upper + reach, median * (1 + _NARROWEST))
        outside = float(((values < low) | (values > high)).double().mean())
        return cls(len(values), float(values[0]), median, float(values[-1]), low, high, outside)


class Duplicates(NamedTuple):
    """Decoder rows that nearly point the same way.

    fraction is the share of compared latents that have a duplicate among all latents; n_pairs the
    number of such pairs, an estimate where not every row was compared; closest the ten closest
    pairs as (latent, latent, cosine).
    """

    n_compared: int
    fraction: float
    n_pairs: int
    closest: tuple[tuple[int, int, float], ...]


@torch.no_grad()
def find_duplicates(rows: Float[Tensor, "n_latents d_in"], *, seed: int = 0) -> Duplicates:
    """Pairs of rows with a cosine above 0.95, in blocks of at most 8 M cosines (32 MB).

    All pairs of up to 16,384 rows; of more, as many rows as cost the same work, drawn by `seed`,
    against all.
    """
    n = len(rows)
    compared = _sample(n, seed).to(rows.device)
    lengths = rows.norm(dim=1).clamp_min(1e-12)
    best: list[tuple[Tensor, Tensor]] = []
    n_hits = 0
    size = max(1, _BLOCK_VALUES // n)
    for start in range(0, len(compared), size):
        part = compared[start : start + size]
        cosine = rows[part] @ rows.T / lengths[part, None] / lengths  # (c, n_latents)
        cosine[torch.arange(len(part), device=rows.device), part] = -1.0
        n_hits += int((cosine > DUPLICATE_COSINE).sum())
        best.append(tuple(cosine.max(dim=1)))
    values, partners = (torch.cat(column).cpu() for column in zip(*best, strict=True))
    return Duplicates(
        n_compared=len(compared),
        fraction=float((values > DUPLICATE_COSINE).double().mean()),
        n_pairs=round(n_hits * n / len(compared) / 2),
        closest=_closest(compared.cpu(), partners, values),
    )


def _closest(
    latents: Tensor, partners: Tensor, values: Tensor
) -> tuple[tuple[int, int, float], ...]:
    found: dict[tuple[int, int], float] = {}
    # Every pair can be there twice, once from each side.
    for i in values.argsort(descending=True)[: 2 * _N_SHOWN].tolist():
        a, b = sorted((int(latents[i]), int(partners[i])))
        if values[i] > DUPLICATE_COSINE:
            found.setdefault((a, b), float(values[i]))
    return tuple((a, b, cosine) for (a, b), cosine in list(found.items())[:_N_SHOWN])


def _sample(n: int, seed: int) -> Tensor:
    if n <= ALL_PAIRS_UP_TO:
        return torch.arange(n)
    order = torch.randperm(n, generator=generator(seed, "duplicates"))
    return order[: max(1, ALL_PAIRS_UP_TO**2 // n)].sort().values


def _quantile(ordered: Tensor, q: float) -> float:
    """Quantile of sorted values, interpolated; torch's own refuses more than 16 M."""
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(torch.lerp(ordered[below], ordered[above], place - below))
