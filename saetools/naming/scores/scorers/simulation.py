"""Simulation (Bills et al. 2023): a judge predicts each token's activation from the name alone.

The score is Pearson's correlation with the real activations over activating and silent contexts
together. A judge that knows its probabilities answers expected values; any number from 0 to 10
will do.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from saetools.naming.base import Name
from saetools.naming.scores.base import SCORERS, Score, ScorerConfig, Trial, score_on_contexts
from saetools.naming.scores.context import ScoringContext, Status
from saetools.naming.scores.evidence import Evidence
from saetools.naming.scores.figures import Figure, bootstrap, correlation
from saetools.naming.scores.held_out import HeldOut
from saetools.naming.scores.judge import Judge, ask_numbers

__all__ = ["Simulation", "SimulationConfig"]

Floats = npt.NDArray[np.float64]

_SYSTEM = (
    "You predict how active a unit inside a neural network is on each token of a text, from an "
    "explanation of what it responds to. 0 is silent, 10 is as active as it gets; on most tokens "
    "most units are silent. The tokens are numbered, one a line. Answer only a list with one "
    "number from 0 to 10 for each token, in order; expected values such as 3.5 are welcome."
)


class SimulationConfig(ScorerConfig):
    """How much the judge is asked; each context is a prompt of its own."""

    n_activating: int = Field(default=5, ge=1, description="activating contexts, at most")
    n_silent: int = Field(default=5, ge=1, description="silent contexts, at most")


@SCORERS.register("simulation")
class Simulation:
    """Correlation of predicted and real activations; its interval resamples contexts."""

    Config = SimulationConfig
    needs: ClassVar[tuple[str, ...]] = ("chat",)

    @staticmethod
    def score(
        trials: Sequence[Trial], context: ScoringContext, config: SimulationConfig
    ) -> list[Score]:
        """One score for each trial."""
        chat = context.need("chat", "simulation")

        def measure(name: Name, evidence: Evidence) -> Figure | Status:
            some = evidence.take(_spread(evidence, config))
            pairs = [
                (real, predicted, bool(fires))
                for rows, acts, fires in zip(some.rows, some.acts, some.fires, strict=True)
                for real, predicted in [_simulate(chat, name, context.held_out, rows, acts)]
                if predicted is not None
            ]
            if not any(fires for *_, fires in pairs) or all(fires for *_, fires in pairs):
                return "unanswered"
            return _figure(pairs, n_asked=len(some.kind), seed=context.seed)

        return score_on_contexts("simulation", trials, context, measure)


def _spread(evidence: Evidence, config: SimulationConfig) -> npt.NDArray[np.int64]:
    """Places of some contexts, spread evenly over the order of each half."""
    chosen = []
    for half, n in (
        (np.flatnonzero(evidence.fires), config.n_activating),
        (np.flatnonzero(~evidence.fires), config.n_silent),
    ):
        chosen.append(half[np.linspace(0, len(half) - 1, min(n, len(half))).round().astype(int)])
    return np.concatenate(chosen)


def _simulate(
    chat: Judge,
    name: Name,
    held_out: HeldOut,
    rows: npt.NDArray[np.int64],
    acts: npt.NDArray[np.float32],
) -> tuple[Floats, Floats | None]:
    """Real and predicted activations of one context; the latter None if not answered."""
    inside = rows >= 0
    tokens = [held_out.texts[t] for t in held_out.token[rows[inside]]]
    listed = "\n".join(f"{i}: {token!r}" for i, token in enumerate(tokens, 1))
    user = f"Explanation: {name.name}\n\nTokens:\n{listed}"
    found = ask_numbers(chat, _SYSTEM, user, n=len(tokens), low=0, high=10)
    real = acts[inside].astype(np.float64)
    return real, None if found is None else np.array(found, dtype=np.float64)


def _figure(pairs: Sequence[tuple[Floats, Floats, bool]], *, n_asked: int, seed: int) -> Figure:
    def over(places: npt.NDArray[np.int64]) -> float:
        real, predicted = (np.concatenate([pairs[i][side] for i in places]) for side in (0, 1))
        return correlation(predicted, real)

    value = over(np.arange(len(pairs)))
    low, high = bootstrap(len(pairs), over, seed=seed)
    n_on = sum(fires for *_, fires in pairs)
    details = {"n_unanswered": float(n_asked - len(pairs))}
    return Figure(value, low, high, n_on, len(pairs) - n_on, details)
