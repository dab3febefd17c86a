"""Score a name by what it says of words and labels: no judge, no model.

The middle token of each held-out context is asked: do you belong to what the name claims? The
latent fires on it in the activating contexts and is silent in the others, near misses included.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from saetools.naming.base import Name
from saetools.naming.scores.base import SCORERS, Score, ScorerConfig, Trial, score_on_contexts
from saetools.naming.scores.claims import claims_something
from saetools.naming.scores.context import ScoringContext, Status
from saetools.naming.scores.evidence import Evidence
from saetools.naming.scores.figures import Figure, agreement, area

__all__ = ["Predicate"]


@SCORERS.register("predicate")
class Predicate:
    """Balanced accuracy of the name's own claim, token by token.

    `details` also has F1, precision and recall of these decisions, and `contexts_auc`: how well
    the share of claimed tokens in the whole context tells activating contexts from silent ones.
    """

    Config = ScorerConfig
    needs: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def score(
        trials: Sequence[Trial],
        context: ScoringContext,
        config: ScorerConfig,  # noqa: ARG004
    ) -> list[Score]:
        """One score for each trial."""

        def measure(name: Name, evidence: Evidence) -> Figure | Status:
            if not claims_something(name):
                return "no claim"
            claimed = np.zeros(len(context.held_out) + 1, dtype=bool)  # the last is row -1
            claimed[context.claims.rows(name)] = True
            figure = agreement(evidence.fires, claimed[evidence.centre].astype(np.float64))
            share = claimed[evidence.rows].sum(1) / np.maximum((evidence.rows >= 0).sum(1), 1)
            return figure._replace(
                details={**figure.details, "contexts_auc": area(evidence.fires, share)}
            )

        return score_on_contexts("predicate", trials, context, measure)
