"""How much of a planted dictionary an SAE has found: directions, and when they fire.

Latents and directions are matched one to one so that the sum of cosines is greatest (Hungarian
algorithm). The mean of the matched cosines is the mean max cosine of the field (MCC); a plain
maximum would let one latent stand for many directions.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from saetools.sae import SAE
from saetools.store import Split
from saetools.testbed.synthetic import SyntheticSource

__all__ = [
    "Band",
    "Matching",
    "RecoveryReport",
    "cosines",
    "hole_rate",
    "match_directions",
    "recovery",
    "recovery_report",
]


class Matching(NamedTuple):
    """The latent of each direction, -1 where there were too few latents, and their cosine."""

    latents: Int[Tensor, " m"]
    cosines: Float[Tensor, " m"]


@dataclass(frozen=True)
class Band:
    """Concepts of similar frequency, and how they were found; all higher is better, 0 to 1.

    Args:
        lowest, highest: chance that a concept of the band is on.
        n_concepts: how many there are.
        mcc: mean cosine of directions and their latents.
        recovered_fraction: share of directions with a cosine of at least the threshold.
        precision: mean over concepts of P(concept on | its latent fires); a latent that never fires
            counts as 0.
        recall: mean over concepts of P(its latent fires | concept on).
        f1: mean over concepts of the harmonic mean of both.
    """

    lowest: float
    highest: float
    n_concepts: int
    mcc: float
    recovered_fraction: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class RecoveryReport:
    """Recovery of all concepts, and of bands of them from the rarest to the most frequent.

    Args:
        whole: all concepts that were on at least once.
        bands: the same concepts by frequency, in parts of nearly equal number.
        threshold: cosine at which a direction counts as recovered.
        n_tokens: rows that the firing was counted on.
        concept_f1: F1 of each planted concept, NaN where it was never on.
    """

    whole: Band
    bands: tuple[Band, ...]
    threshold: float
    n_tokens: int
    concept_f1: tuple[float, ...]


def cosines(rows: Float[Tensor, "a d"], others: Float[Tensor, "b d"]) -> Float[Tensor, "a b"]:
    """Cosine of every row with every other, on the device of `rows`."""
    return _unit(rows.detach()) @ _unit(others.detach().to(rows.device)).T


def match_directions(
    rows: Float[Tensor, "n_latents d"], directions: Float[Tensor, "m d"]
) -> Matching:
    """The row of each direction by the best one-to-one matching of |cosines|."""
    table = cosines(rows, directions).abs().cpu()
    own, matched = linear_sum_assignment(-table.numpy())
    latents = torch.full((len(directions),), -1)
    found = torch.zeros(len(directions))
    latents[torch.as_tensor(matched)] = torch.as_tensor(own)
    found[torch.as_tensor(matched)] = table[own, matched].float()
    return Matching(latents, found)


def recovery(
    rows: Float[Tensor, "n_latents d"], directions: Float[Tensor, "m d"]
) -> Float[Tensor, " m"]:
    """|cosine| of each direction with the row that is its own, by the best one-to-one matching."""
    return match_directions(rows, directions).cosines


@torch.no_grad()
def hole_rate(
    sae: SAE,
    x: Float[Tensor, "n d_in"],
    *,
    parents: Float[Tensor, "p d_in"],
    child_on: Bool[Tensor, "n p"],
) -> float:
    """P(the parent's latent is off | a child is on), mean over parents; lower is better, 0 to 1.

    A parent's latent is the decoder row with the greatest cosine to the parent.
    """
    own = cosines(sae.W_dec, parents).argmax(0)
    on = (sae.encode(x.to(sae.device)).of(own) > 0).to(child_on.device)
    holes = (~on & child_on).sum(0) / child_on.sum(0)
    return float(holes.mean())


@torch.no_grad()
def recovery_report(
    sae: SAE,
    source: SyntheticSource,
    *,
    n_tokens: int = 20_000,
    threshold: float = 0.9,
    n_bands: int = 4,
    split: Split = "held_out",
) -> RecoveryReport:
    """Compare an SAE with the directions of a source, and its firing with the truth.

    Args:
        sae: an SAE that reads the source's rows.
        n_tokens: rows to count firing on; a whole number of chunks of 1024 is taken.
        threshold: |cosine| at which a direction counts as recovered.
        n_bands: parts of nearly equal number into which concepts are cut by frequency.
        split: rows to count on.

    >>> recovery_report(sae, source).whole.mcc                      # doctest: +SKIP
    """
    matching = match_directions(sae.W_dec, source.directions)
    has_latent = matching.latents >= 0
    both, fired, on = (torch.zeros(len(source.directions), dtype=torch.float64) for _ in range(3))
    rows = 0
    for found in source.rows(split=split, n_rows=n_tokens):
        latents = sae.encode(found.x.to(sae.device))
        fires = (latents.of(matching.latents.clamp_min(0)) > 0).cpu() & has_latent
        both += (fires & found.on).sum(0)
        fired += fires.sum(0)
        on += found.on.sum(0)
        rows += len(found.x)
    f1 = 2 * both / (fired + on)
    per_concept = torch.stack(
        [
            matching.cosines.double(),
            (matching.cosines >= threshold).double(),
            both / fired.clamp_min(1),
            both / on,
            f1,
        ]
    )  # (5, m); a column that was never on is left out below
    seen = torch.nonzero(on > 0).squeeze(1)
    seen = seen[source.chances[seen].argsort(stable=True)]
    bands = [
        _band(source.chances[part], per_concept[:, part])
        for part in seen.tensor_split(min(n_bands, len(seen)))
    ]
    return RecoveryReport(
        whole=_band(source.chances[seen], per_concept[:, seen]),
        bands=tuple(bands),
        threshold=threshold,
        n_tokens=rows,
        concept_f1=tuple(
            float(value) if count > 0 else math.nan for value, count in zip(f1, on, strict=True)
        ),
    )


def _band(chances: Tensor, figures: Tensor) -> Band:
    lowest, highest = float(chances.min()), float(chances.max())
    return Band(lowest, highest, len(chances), *figures.mean(1).tolist())


def _unit(rows: Tensor) -> Tensor:
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return unit
