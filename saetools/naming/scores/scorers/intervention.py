"""Score a name by experiment: add the latent, or ablate it, and see whether the output follows.

Every effect stands beside that of latents which fire as often, drawn at random: they are put into
the same model in units of their own largest activation, and read with the same name. The score is
the share of pairs (text, matched latent) in which the named latent, added, moves the output towards
the name, more than towards other names in the mean, and farther than the matched one does. A latent
that moves nothing scores 0; one that does not differ from others, about 3/8 if effects are noise
around zero. The interval is that of a share of as many cases as there are matched latents.

`details`, in nats for language models and cosine for encoders: `add_effect` (above other names),
`add_raw` (not so), `add_control` (mean of the matched latents), `add_difference` with `_low` and
`_high` (texts drawn anew); the same with `ablate_`, and `ablate_score`; `flipped`: by how much the
share of tokens rises at which the name's tokens are the likeliest, an interchange accuracy.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from saetools import progress
from saetools.intervene.base import find_site
from saetools.naming.base import Name
from saetools.naming.scores.base import SCORERS, Score, ScorerConfig, Trial, score_of
from saetools.naming.scores.context import ScoringContext, Status
from saetools.naming.scores.effects import Effects
from saetools.naming.scores.figures import Figure, wilson
from saetools.naming.scores.readout import EncoderReadout, Readout, readout_of

__all__ = ["Intervention", "InterventionConfig", "matched_latents", "wins"]

Floats = npt.NDArray[np.float64]


class InterventionConfig(ScorerConfig):
    """How much is run: two passes over `n_texts` texts for each latent and matched latent."""

    n_texts: int = Field(default=8, ge=2, description="held-out texts")
    n_tokens: int = Field(default=48, ge=4, description="their length, at most")
    n_matched: int = Field(default=6, ge=1, description="latents of like firing rate beside each")
    strength: float = Field(
        default=1.0, gt=0, description="what is added, in units of the largest activation"
    )
    min_effect: float = Field(
        default=1e-3, ge=0, description="change below which the output has not moved"
    )
    n_reference: int = Field(
        default=32, ge=1, description="other names whose mean effect counts as none, at most"
    )
    ablate: bool = Field(default=True, description="also ablate each latent where it fires")
    n_draws: int = Field(default=400, ge=50, description="bootstrap draws")


@SCORERS.register("intervention")
class Intervention:
    """Share of matched random latents that a latent outdoes at what its name says."""

    Config = InterventionConfig
    needs: ClassVar[tuple[str, ...]] = ("model", "sae")

    @staticmethod
    def score(
        trials: Sequence[Trial], context: ScoringContext, config: InterventionConfig
    ) -> list[Score]:
        """One score for each trial; each latent is run once, for all names that ask about it."""
        model, sae = context.need("model", "intervention"), context.need("sae", "intervention")
        site, readout = find_site(model, sae), readout_of(model)
        if isinstance(readout, EncoderReadout):
            readout.prepare([name for trial in trials for name in trial if name is not None])
        matched = {
            trial.name.latent: matched_latents(
                context.index.firing_rate,
                trial.name.latent,
                n=config.n_matched,
                rng=np.random.default_rng((context.seed, 7, trial.name.latent)),
            )
            for trial in trials
        }
        effects = Effects(
            context,
            site,
            readout,
            n_texts=config.n_texts,
            n_tokens=config.n_tokens,
            strength=config.strength,
            reference=_reference(trials, readout, config.n_reference, context.seed),
        )
        runs = _run_all(trials, matched, effects, readout, config)
        return [_score(trial, context, matched, runs, readout, config) for trial in trials]


def matched_latents(
    firing_rate: Floats, latent: int, *, n: int, rng: np.random.Generator
) -> list[int]:
    """Draw `n` of the 4 n live latents whose firing rate is nearest, by its logarithm."""
    live = np.flatnonzero(firing_rate > 0)
    live = live[live != latent]
    away = np.abs(np.log(firing_rate[live]) - math.log(max(float(firing_rate[latent]), 1e-12)))
    near = live[np.argsort(away, kind="stable")[: 4 * n]]
    drawn: list[int] = rng.choice(near, size=min(n, len(near)), replace=False).tolist()
    return drawn


def wins(own: Floats, others: Floats, min_effect: float) -> Floats:
    """Whether the named latent's effect is real and above the matched latents', (others, texts).

    Args:
        own: effects in texts (texts,); nan where a text does not count.
        others: effects of each matched latent, (others, texts); nan likewise.
    """
    won = ((own > min_effect) & (own > others + min_effect)).astype(np.float64)
    won[np.isnan(own + others)] = np.nan
    return won


class _Runs(NamedTuple):
    """Effects by (latent, name's latent), of adding and of ablating, a row of texts each."""

    added: dict[tuple[int, int], Floats]
    added_raw: dict[tuple[int, int], Floats]
    flipped: dict[tuple[int, int], Floats]
    ablated: dict[tuple[int, int], Floats]
    ablated_raw: dict[tuple[int, int], Floats]


def _run_all(
    trials: Sequence[Trial],
    matched: Mapping[int, Sequence[int]],
    effects: Effects,
    readout: Readout,
    config: InterventionConfig,
) -> _Runs:
    asked: dict[int, dict[int, Name]] = {}
    for trial in trials:
        for name in trial:
            if name is None or not readout.claims(name):
                continue
            for latent in (trial.name.latent, *matched[trial.name.latent]):
                asked.setdefault(latent, {})[name.latent] = name
    runs = _Runs({}, {}, {}, {}, {})
    with progress.task("score by intervention", total=len(asked), unit="latents") as task:
        for latent, names in asked.items():
            moved = effects.added(latent, list(names.values()))
            _keep(runs.added, latent, names, moved.effect)
            _keep(runs.added_raw, latent, names, moved.raw)
            _keep(runs.flipped, latent, names, moved.flipped)
            gone = effects.ablated(latent, list(names.values())) if config.ablate else None
            if gone is not None:
                _keep(runs.ablated, latent, names, gone.effect)
                _keep(runs.ablated_raw, latent, names, gone.raw)
            task.advance()
    return runs


def _reference(trials: Sequence[Trial], readout: Readout, n: int, seed: int) -> list[Name]:
    """Some of the names around, each claim once; the same for every latent."""
    around = {
        name.name.casefold(): name
        for trial in trials
        for name in trial
        if name is not None and readout.claims(name)
    }
    names = sorted(around.values(), key=lambda name: name.latent)
    order = np.random.default_rng((seed, 9)).permutation(len(names))[:n]
    return [names[i] for i in order]


def _keep(
    table: dict[tuple[int, int], Floats], latent: int, names: Mapping[int, Name], rows: Floats
) -> None:
    table.update(((latent, key), row) for key, row in zip(names, rows, strict=True))


def _score(
    trial: Trial,
    context: ScoringContext,
    matched: Mapping[int, Sequence[int]],
    runs: _Runs,
    readout: Readout,
    config: InterventionConfig,
) -> Score:
    latent = trial.name.latent

    def measure(name: Name) -> Figure | Status:
        if not readout.claims(name):
            return "no claim"
        others = matched[latent]
        if not others:
            return "silent"
        seeds = (context.seed, 8, latent)
        own = runs.added[latent, name.latent]
        controls = np.stack([runs.added[other, name.latent] for other in others])
        value, low, high = _share(wins(own, controls, config.min_effect))
        details = {
            **_difference("add", own, controls, seeds, config.n_draws, paired=True),
            "add_raw": _mean(runs.added_raw[latent, name.latent]),
            "flipped": _mean(runs.flipped[latent, name.latent]),
        }
        details |= _of_ablation(latent, name, others, runs, seeds, config)
        return Figure(value, low, high, int(np.isfinite(own).sum()), len(others), details)

    return score_of("intervention", trial, float(context.index.firing_rate[latent]), measure)


def _of_ablation(
    latent: int,
    name: Name,
    others: Sequence[int],
    runs: _Runs,
    seeds: tuple[int, ...],
    config: InterventionConfig,
) -> dict[str, float]:
    """Figures of ablation: each latent in texts of its own, so every text meets every other."""
    own = runs.ablated.get((latent, name.latent))
    rows = [runs.ablated[o, name.latent] for o in others if (o, name.latent) in runs.ablated]
    if own is None or not rows:
        return {}
    flat = np.concatenate(rows)
    own, flat = own[np.isfinite(own)], flat[np.isfinite(flat)]
    if not len(own) or not len(flat):
        return {}
    won = wins(own[None, :], flat[:, None], config.min_effect)
    found = _difference("ablate", own, flat[None, :], seeds, config.n_draws, paired=False)
    raw = _mean(runs.ablated_raw[latent, name.latent])
    return {**found, "ablate_raw": raw, "ablate_score": float(won.mean())}


def _share(won: Floats) -> tuple[float, float, float]:
    """Mean of a table (others, texts), and Wilson's interval for as many cases as others.

    Texts are not cases: a matched latent that is outdone in one is mostly outdone in all.
    """
    value = _mean(won)
    n = int(np.isfinite(won).any(1).sum())
    return (value, *wilson(value * n, n))


def _difference(
    what: str, own: Floats, controls: Floats, seeds: tuple[int, ...], n_draws: int, *, paired: bool
) -> dict[str, float]:
    """Mean effect, that of the controls, and their difference with a 95 % interval over texts."""
    rng = np.random.default_rng(seeds)
    control = np.nanmean(controls, axis=0)  # of each text
    drawn = []
    for _ in range(n_draws):
        mine = rng.integers(len(own), size=len(own))
        theirs = mine if paired else rng.integers(len(control), size=len(control))
        drawn.append(_mean(own[mine]) - _mean(control[theirs]))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {
        f"{what}_effect": _mean(own),
        f"{what}_control": _mean(control),
        f"{what}_difference": _mean(own) - _mean(control),
        f"{what}_difference_low": float(low),
        f"{what}_difference_high": float(high),
    }


def _mean(values: Floats) -> float:
    """Mean over what counts; nan of nothing."""
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else math.nan
