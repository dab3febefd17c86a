"""Detection (Paulo et al. 2024): does a judge tell activating contexts by the name?"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from saetools.naming.base import Name
from saetools.naming.scores.base import SCORERS, Score, ScorerConfig, Trial, score_on_contexts
from saetools.naming.scores.context import ScoringContext, Status
from saetools.naming.scores.evidence import Evidence
from saetools.naming.scores.figures import Figure, agreement
from saetools.naming.scores.judge import ask_about, marked_text

__all__ = ["Detection", "DetectionConfig"]

_SYSTEM = (
    "You check explanations of a unit inside a neural network. An explanation says in which texts "
    "the unit is active. For each example decide whether the unit, if the explanation is right, is "
    "active somewhere in it: 1 for yes, 0 for no; a probability between them if you are unsure. "
    "Answer only a list with one number for each example, in order, such as [1, 0, 0, 1, 0]."
)


class DetectionConfig(ScorerConfig):
    """How the judge is asked."""

    batch: int = Field(default=5, ge=1, description="examples a prompt")


@SCORERS.register("detection")
class Detection:
    """Balanced accuracy of a judge who sees whole contexts, unmarked. `details` has AUC and F1."""

    Config = DetectionConfig
    needs: ClassVar[tuple[str, ...]] = ("chat",)

    @staticmethod
    def score(
        trials: Sequence[Trial], context: ScoringContext, config: DetectionConfig
    ) -> list[Score]:
        """One score for each trial."""
        chat = context.need("chat", "detection")

        def measure(name: Name, evidence: Evidence) -> Figure | Status:
            # Mixed, so that no prompt has one answer throughout.
            order = np.random.default_rng((context.seed, 2, evidence.latent)).permutation(
                len(evidence.kind)
            )
            shown = evidence.take(order)
            bare = np.zeros(shown.rows.shape, dtype=bool)
            texts = [
                marked_text(context.held_out, row, none)
                for row, none in zip(shown.rows, bare, strict=True)
            ]
            answers = ask_about(chat, _SYSTEM, name.name, texts, batch=config.batch)
            if np.isnan(answers).all():
                return "unanswered"
            return agreement(shown.fires, answers)

        return score_on_contexts("detection", trials, context, measure)
