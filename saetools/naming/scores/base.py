"""What a scorer is and what it gives, and the registry of scorers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from saetools.naming.base import Name
from saetools.naming.scores.context import ScoringContext, Status
from saetools.naming.scores.evidence import Evidence
from saetools.naming.scores.figures import Figure
from saetools.registry import Registry

__all__ = [
    "SCORERS",
    "Score",
    "Scorer",
    "ScorerConfig",
    "Trial",
    "score_of",
    "score_on_contexts",
]


class ScorerConfig(BaseModel):
    """What all scorers' settings have in common: they are frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Trial:
    """A name to score, and two names of other latents to score in its place.

    Args:
        name: the name.
        random: one drawn at random from the same namer's names; None if there is none.
        swapped: the one that a fixed permutation without fixed points puts here.
    """

    name: Name
    random: Name | None = None
    swapped: Name | None = None

    def __iter__(self) -> Iterator[Name | None]:
        return iter((self.name, self.random, self.swapped))


@dataclass(frozen=True)
class Score:
    """How one name did with one scorer, on held-out documents only.

    Args:
        latent, scorer: whose score, and by what.
        value: the score; nan unless `status` is "scored". Higher is better.
        low, high: its 95 % interval.
        n_positive, n_negative: cases behind it.
        random_name, swapped_name: what the names of other latents score here.
        status: why there is no value, if there is none.
        firing_rate: of the latent, share of tokens.
        details: further figures by name.
    """

    latent: int
    scorer: str
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    n_positive: int = 0
    n_negative: int = 0
    random_name: float = float("nan")
    swapped_name: float = float("nan")
    status: Status = "scored"
    firing_rate: float = float("nan")
    details: Mapping[str, float] = field(default_factory=dict)


class Scorer(Protocol):
    """A way to score names. It sees held-out documents only."""

    Config: type[Any]
    needs: ClassVar[tuple[str, ...]]
    """Parts of the context that must not be None: "chat", "model", "sae"."""

    @staticmethod
    def score(trials: Sequence[Trial], context: ScoringContext, config: Any) -> list[Score]:
        """One score for each trial, in their order."""


SCORERS: Registry[type[Scorer]] = Registry(
    "scorer", package="saetools.naming.scores.scorers", group="saetools.scorers"
)


def score_on_contexts(
    scorer: str,
    trials: Sequence[Trial],
    context: ScoringContext,
    measure: Callable[[Name, Evidence], Figure | Status],
) -> list[Score]:
    """Score each trial's three names with `measure` on the contexts of its latent."""
    return [_on_contexts(scorer, trial, context, measure) for trial in trials]


def _on_contexts(
    scorer: str,
    trial: Trial,
    context: ScoringContext,
    measure: Callable[[Name, Evidence], Figure | Status],
) -> Score:
    latent = trial.name.latent
    rate = float(context.index.firing_rate[latent])
    evidence = context.contexts(latent)
    if isinstance(evidence, str):
        return Score(latent, scorer, status=evidence, firing_rate=rate)
    return score_of(scorer, trial, rate, lambda name: measure(name, evidence))


def score_of(
    scorer: str, trial: Trial, rate: float, measure: Callable[[Name], Figure | Status]
) -> Score:
    """The score of a trial: its own name's figure, with the values of the other two beside it."""
    latent = trial.name.latent
    own = measure(trial.name)
    if isinstance(own, str):
        return Score(latent, scorer, status=own, firing_rate=rate)
    others = [None if name is None else measure(name) for name in (trial.random, trial.swapped)]
    controls = [o.value if isinstance(o, Figure) else float("nan") for o in others]
    return Score(
        latent,
        scorer,
        value=own.value,
        low=own.low,
        high=own.high,
        n_positive=own.n_positive,
        n_negative=own.n_negative,
        random_name=controls[0],
        swapped_name=controls[1],
        firing_rate=rate,
        details=own.details,
    )
