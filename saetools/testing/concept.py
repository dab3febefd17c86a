"""Rows in which one concept is planted, and an SAE whose latents are exactly the directions."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.erase import LabelledRows
from saetools.sae import SAE, build_sae

__all__ = ["PlantedConcept", "exact_sae", "planted_concept"]

_NOISE = 0.01
_THRESHOLD = 0.25


class PlantedConcept(NamedTuple):
    """Labelled rows, an SAE that reads them without error, and how many latents are the concept's.

    Latents 0 to n_concept - 1 fire on rows of forget texts and nowhere else.
    """

    rows: LabelledRows
    sae: SAE
    n_concept: int


def planted_concept(
    *,
    n_texts: int = 120,
    n_rows: int = 8,
    d_in: int = 32,
    n_directions: int = 24,
    n_concept: int = 3,
    seed: int = 0,
) -> PlantedConcept:
    """Texts of sums of orthonormal directions, all with sizes from 0.5 to 1.5; small noise.

    Half the texts are of the concept: on each of their rows every concept direction is on with
    chance 0.5. All other directions are on with chance 0.25 on every row, so that they fire as
    often as the concept's over all rows.
    """
    g = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(d_in, d_in, generator=g))[0][:n_directions]
    text = torch.arange(n_texts).repeat_interleave(n_rows)
    target = text < n_texts // 2
    chance = torch.full((len(text), n_directions), 0.25)
    chance[:, :n_concept] = 0.5 * target.float().unsqueeze(1)
    on = torch.rand(chance.shape, generator=g) < chance
    size = 0.5 + torch.rand(chance.shape, generator=g)
    noise = _NOISE * torch.randn(len(text), d_in, generator=g)
    rows = LabelledRows((on * size) @ directions + noise, target.long(), text)
    return PlantedConcept(rows, exact_sae(directions), n_concept)


def exact_sae(directions: Float[Tensor, "m d_in"], *, threshold: float = _THRESHOLD) -> SAE:
    """An SAE whose latent i is x · directions[i] where that is above the threshold."""
    sae = build_sae("jumprelu", d_in=directions.shape[1], n_latents=len(directions), target_l0=1.0)
    with torch.no_grad():
        for weight in (sae.W_dec, sae.W_enc_rows):
            weight.copy_(directions)
        sae.get_parameter("threshold").fill_(threshold)
    return sae.requires_grad_(False)
