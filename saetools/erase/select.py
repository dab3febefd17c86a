"""Which latents stand for a concept: ranked by a score, held to thresholds, with the evidence.

Scores, of a latent's rate f, mean m and mean square q on what is to be forgotten (F) and kept (R):

    difference = m_F - m_R
    contrast   = (m_F - m_R) / (m_F + m_R + eps)        SAUCE's, made contrastive
    rate       = f_F                                     Farrell, Lau and Conmy 2024 (2410.19278)
    importance = q_F, of those with q_F / q_R in the upper percent   DSG, Muhamed et al. 2025
    saliency   = m_F                                     ranks latents of everything first

A latent that fires on everything has a large mean, so a score without the retain side picks dense
latents; `difference` and `contrast` subtract it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from saetools.erase.base import EraserConfig
from saetools.erase.latent_stats import LatentStats, latent_stats, text_stats
from saetools.erase.rows import LabelledRows
from saetools.errors import ConfigError
from saetools.sae import SAE

__all__ = ["Score", "SelectConfig", "Selection", "select_from", "select_latents"]

Score = Literal["difference", "contrast", "rate", "importance", "saliency"]

_EPS = 1e-6


class SelectConfig(EraserConfig):
    """How latents are chosen; the settings that all latent-based erasers share."""

    n_latents: int = Field(default=16, ge=1, description="at most so many latents, best first")
    score: Score = Field(default="difference", description="what ranks them")
    count_by: Literal["row", "text"] = Field(
        default="row", description="what rates and means are over: rows, or texts by their largest"
    )
    min_forget_rate: float = Field(
        default=0.001, ge=0, le=1, description="fires on at least this share of what is forgotten"
    )
    max_retain_rate: float = Field(
        default=1.0, ge=0, le=1, description="fires on less than this share of what is kept"
    )
    ratio_percentile: float = Field(
        default=95.0,
        ge=0,
        le=100,
        description="score importance: percentile of the ratio of mean squares to be passed",
    )


@dataclass(frozen=True)
class Selection:
    """Chosen latents and why.

    Args:
        latents: best first, (m,).
        evidence: one entry each: rates, means, score.
        thresholds: what each of them passed.
        rejected: latents that each reason left out, counted in the order of the reasons.
    """

    latents: Int[Tensor, " m"]
    evidence: tuple[Mapping[str, int | float], ...]
    thresholds: Mapping[str, int | float]
    rejected: Mapping[str, int]


def select_latents(sae: SAE, rows: LabelledRows, config: SelectConfig | None = None) -> Selection:
    """Choose the latents that fire on the rows to forget and not on those to retain.

    Raises:
        ConfigError: none is left; the message says which threshold left out how many.
    """
    config = config or SelectConfig()
    if config.count_by == "text":
        sides = [text_stats(sae, rows, forget=side) for side in (True, False)]
    else:
        sides = [latent_stats(sae, rows.x[side]) for side in (rows.forget, ~rows.forget)]
    return select_from(sides[0], sides[1], config)


def select_from(forget: LatentStats, retain: LatentStats, config: SelectConfig) -> Selection:
    """The same from statistics that are there already."""
    score, ratio_floor = _scores(forget, retain, config)
    # Of a threshold of 1 nothing can be above it.
    below = (retain.rate < config.max_retain_rate) | (config.max_retain_rate == 1.0)
    tests: dict[str, Bool[Tensor, " n_latents"]] = {
        "silent on what is forgotten": forget.rate > 0,
        f"forget rate below min_forget_rate = {config.min_forget_rate:g}": (
            forget.rate >= config.min_forget_rate
        ),
        f"retain rate at or above max_retain_rate = {config.max_retain_rate:g}": below,
    }
    thresholds = {
        "min_forget_rate": config.min_forget_rate,
        "max_retain_rate": config.max_retain_rate,
    }
    if config.score == "importance":
        thresholds["min_importance_ratio"] = ratio_floor
        name = f"importance ratio below its {config.ratio_percentile:g}th percentile"
        tests[name] = forget.mean_square / (retain.mean_square + 1e-21) >= ratio_floor
    if config.score in ("difference", "contrast"):
        tests["not stronger on what is forgotten"] = score > 0
    left = torch.ones_like(forget.rate, dtype=torch.bool)
    rejected: dict[str, int] = {}
    for reason, passed in tests.items():
        rejected[reason] = int((left & ~passed).sum())
        left = left & passed
    if not bool(left.any()):
        raise ConfigError(_empty(len(left), rejected, forget, retain))
    order = torch.where(left, score, -torch.inf).argsort(descending=True, stable=True)
    chosen = order[: min(config.n_latents, int(left.sum()))]
    if int(left.sum()) > len(chosen):
        rejected["ranked below n_latents"] = int(left.sum()) - len(chosen)
    evidence = tuple(_evidence(int(i), score, forget, retain) for i in chosen)
    return Selection(chosen, evidence, thresholds, rejected)


def _scores(
    forget: LatentStats, retain: LatentStats, config: SelectConfig
) -> tuple[Float[Tensor, " n_latents"], float]:
    """The score of every latent, and the smallest ratio of mean squares allowed."""
    gap = forget.mean - retain.mean
    if config.score == "difference":
        return gap, 0.0
    if config.score == "contrast":
        return gap / (forget.mean + retain.mean + _EPS), 0.0
    if config.score == "rate":
        return forget.rate, 0.0
    if config.score == "saliency":
        return forget.mean, 0.0
    ratio = (forget.mean_square / (retain.mean_square + 1e-21)).double()
    ranked = ratio.sort().values
    place = min(int(config.ratio_percentile / 100 * len(ranked)), len(ranked) - 1)
    return forget.mean_square, float(ranked[place])


def _evidence(
    latent: int, score: Tensor, forget: LatentStats, retain: LatentStats
) -> dict[str, int | float]:
    return {
        "latent": latent,
        "score": float(score[latent]),
        "forget_rate": float(forget.rate[latent]),
        "retain_rate": float(retain.rate[latent]),
        "forget_mean": float(forget.mean[latent]),
        "retain_mean": float(retain.mean[latent]),
    }


def _empty(
    n_latents: int, rejected: Mapping[str, int], forget: LatentStats, retain: LatentStats
) -> str:
    worst = max(rejected, key=lambda reason: rejected[reason])
    cuts = "; ".join(f"{reason}: {n:,}" for reason, n in rejected.items() if n)
    reach = ""
    if bool((forget.rate > 0).any()):
        alive = forget.rate > 0
        reach = (
            f" Of those that fire there, the largest forget rate is {float(forget.rate.max()):.3g} "
            f"and the smallest retain rate {float(retain.rate[alive].min()):.3g}."
        )
    return (
        f"no latent was selected: of {n_latents:,}, left out were: {cuts}.{reach} Loosen what left "
        f"out most ({worst}): lower min_forget_rate, raise max_retain_rate, lower "
        "ratio_percentile, or give more texts to forget"
    )
