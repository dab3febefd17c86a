"""Fuzzing (Paulo et al. 2024): does a judge tell by name which tokens it is?

Activating contexts are shown with the tokens marked on which the latent fires. The others are
silent contexts with as many random tokens marked as are active in an activating one on average,
and activating contexts with as many wrong tokens marked as are active in them.
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
from saetools.naming.scores.figures import Figure, agreement
from saetools.naming.scores.judge import ask_about, marked_text

__all__ = ["Fuzzing", "FuzzingConfig", "marks"]

Bools = npt.NDArray[np.bool_]

_SYSTEM = (
    "You check explanations of a unit inside a neural network. An explanation says on which tokens "
    "the unit is active. In each example some tokens are marked <<like this>>. Answer 1 for an "
    "example if the unit, if the explanation is right, is active on all marked tokens, and 0 if "
    "any mark is wrong; a probability between them if you are unsure. Answer only a list with one "
    "number for each example, in order, such as [1, 0, 0, 1, 0]."
)


class FuzzingConfig(ScorerConfig):
    """How the judge is asked."""

    batch: int = Field(default=5, ge=1, description="examples a prompt")
    wrong_fraction: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the negatives that are activating contexts with wrong tokens marked",
    )


@SCORERS.register("fuzzing")
class Fuzzing:
    """Balanced accuracy of a judge who sees marked tokens. `details` has AUC and F1."""

    Config = FuzzingConfig
    needs: ClassVar[tuple[str, ...]] = ("chat",)

    @staticmethod
    def score(
        trials: Sequence[Trial], context: ScoringContext, config: FuzzingConfig
    ) -> list[Score]:
        """One score for each trial."""
        chat = context.need("chat", "fuzzing")

        def measure(name: Name, evidence: Evidence) -> Figure | Status:
            rng = np.random.default_rng((context.seed, 3, evidence.latent))
            rows, marked, right = marks(evidence, config.wrong_fraction, rng)
            order = rng.permutation(len(right))
            texts = [marked_text(context.held_out, rows[i], marked[i]) for i in order]
            answers = ask_about(chat, _SYSTEM, name.name, texts, batch=config.batch)
            if np.isnan(answers).all():
                return "unanswered"
            return agreement(right[order], answers)

        return score_on_contexts("fuzzing", trials, context, measure)


def marks(
    evidence: Evidence, wrong_fraction: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], Bools, Bools]:
    """Contexts (c, w), their marked tokens (c, w), and which are marked rightly (c,)."""
    active, inside = evidence.acts > 0, evidence.rows >= 0
    on = np.flatnonzero(evidence.fires)
    off = np.flatnonzero(~evidence.fires)
    n_active = active.sum(1)
    n_wrong = min(round(len(off) * wrong_fraction), len(on))
    wrong = rng.choice(on, size=n_wrong, replace=False)
    wrong = wrong[(inside & ~active)[wrong].any(1)]
    silent = off[: len(off) - len(wrong)] if len(wrong) < len(off) else off[:0]
    usual = int(np.ceil(n_active[on].mean())) if len(on) else 0
    chosen = np.concatenate([on, silent, wrong])
    free = [inside[silent], (inside & ~active)[wrong]]
    sizes = np.concatenate([np.full(len(silent), usual, dtype=np.int64), n_active[wrong]])
    drawn = _draw(np.concatenate(free), sizes, rng)
    right = np.arange(len(chosen)) < len(on)
    return evidence.rows[chosen], np.concatenate([active[on], drawn]), right


def _draw(free: Bools, sizes: npt.NDArray[np.int64], rng: np.random.Generator) -> Bools:
    """Mark that many tokens of each row, of the free ones; all of them if there are fewer."""
    chance = np.where(free, rng.random(free.shape), np.inf)
    place = chance.argsort(1).argsort(1)
    marked: Bools = free & (place < sizes[:, None])
    return marked
