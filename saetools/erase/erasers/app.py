"""APP: a chosen latent loses the share of its activation that the concept explains.

    z_j -> z_j · (1 − P(c | z_j))     P(c | z) = π r_c p_c(z) / (π r_c p_c(z) + (1 − π) r_o p_o(z))

π is the concept's prior, r a side's firing rate and p its density over active values, a Gaussian or
a kernel estimate; silent latents stay silent. A smooth form of range suppression without a width.
Fereidouni et al. 2025 (arXiv:2508.15094); the mixture with a point mass at zero is our
specification.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from saetools.erase.base import ERASERS
from saetools.erase.latent_stats import latent_rows
from saetools.erase.latents import LatentEraser
from saetools.erase.rows import LabelledRows
from saetools.erase.select import SelectConfig
from saetools.sae import SAE

__all__ = ["App", "AppConfig"]

_GRID = 257
_MOST_VALUES = 2000


class AppConfig(SelectConfig):
    """The prior decides how much is taken where the two sides overlap."""

    prior: float | None = Field(
        default=None, gt=0, lt=1, description="π of the concept; null: its share of the rows"
    )
    density: Literal["kernel", "gaussian"] = Field(
        default="kernel", description="how densities over active values are estimated"
    )


@ERASERS.register("app")
class App(LatentEraser):
    """Dampens latents by the posterior of the concept."""

    Config = AppConfig

    @classmethod
    def describe(
        cls, latents: Int[Tensor, " m"], rows: LabelledRows, config: Any, sae: SAE
    ) -> Mapping[str, Tensor]:
        """The posterior of each latent on a grid over the values that it has."""
        z = latent_rows(sae, rows.x, latents)
        prior = config.prior or float(rows.forget.float().mean())
        found = [_posterior(column, rows.forget, prior, config.density) for column in z.T]
        low, high, table = (torch.stack(part) for part in zip(*found, strict=True))
        return {"low": low, "high": high, "posterior": table}

    def new_activations(self, old: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """What the concept does not explain."""
        low, high, table = (self.tensors[k] for k in ("low", "high", "posterior"))
        place = ((old - low) / (high - low).clamp_min(1e-12)).clamp(0, 1) * (_GRID - 1)
        left = place.long().clamp(max=_GRID - 2)  # (n, m)
        latent = torch.arange(old.shape[1], device=old.device)
        share = table[latent, left].lerp(table[latent, left + 1], place - left)
        return old * (1 - share)


def _posterior(
    z: Float[Tensor, " n"], forget: Tensor, prior: float, density: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Smallest and largest active value of a latent, and the posterior between them, (grid,)."""
    sides = [z[side & (z != 0)].double() for side in (forget, ~forget)]
    active = torch.cat(sides)
    if len(active) == 0:
        return z.new_zeros(()), z.new_zeros(()), z.new_zeros(_GRID)
    low, high = active.min(), active.max()
    grid = torch.linspace(float(low), float(high), _GRID, dtype=torch.float64)
    spread = active.std(correction=0).clamp_min(1e-6)
    weights = (prior, 1 - prior)
    rates = [
        len(side) / max(int(rows), 1)
        for side, rows in zip(sides, (forget.sum(), (~forget).sum()), strict=True)
    ]
    log_mass = torch.stack(
        [
            _log_density(side, grid, spread, density) + torch.tensor(weight * rate).log()
            for side, weight, rate in zip(sides, weights, rates, strict=True)
        ]
    )
    share = torch.softmax(log_mass, 0)[0]
    return low.float(), high.float(), share.nan_to_num(0.0).float()


def _log_density(values: Tensor, grid: Tensor, spread: Tensor, density: str) -> Tensor:
    """Log density of the values at the grid, with a thousandth of a uniform one for the tails."""
    if len(values) == 0:
        return torch.full_like(grid, -torch.inf)
    own = values.std(correction=0) if len(values) > 1 else spread
    own = own.clamp_min(1e-3 * spread)
    if density == "gaussian":
        return _log_normal(grid, values.mean(), own)
    if len(values) > _MOST_VALUES:  # evenly spaced quantiles stand for all of them
        values = values.sort().values
        values = values[torch.linspace(0, len(values) - 1, _MOST_VALUES).long()]
    width = 0.9 * own * len(values) ** -0.2  # Silverman's rule
    near = _log_normal(grid, values.unsqueeze(1), width)  # (values, grid)
    kernel = near.logsumexp(0) - torch.tensor(float(len(values))).log()
    flat = -(grid[-1] - grid[0]).clamp_min(1e-6).log() + torch.tensor(1e-3).log()
    return torch.logaddexp(kernel, flat.expand_as(kernel))


def _log_normal(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    found: Tensor = -0.5 * ((x - mean) / std) ** 2 - (std * math.sqrt(2 * math.pi)).log()
    return found
