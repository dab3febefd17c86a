"""Type I and type II errors of a name, over all held-out words (Huang et al. 2023, observational).

A name denotes a set E of words in their places; it says that the latent fires on all of them and
only there. Every held-out word is looked at, so rates are those of natural text:

- type I: the latent fires, outside E, as a share of the words on which it fires;
- type II: the latent is silent, in E, as a share of E.

A word fires if the latent's activation on any of its tokens is above the threshold. Precision is
1 - type II (what E promises and the latent keeps), recall 1 - type I, F1 the score. The interval
draws documents anew.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from saetools.naming.base import Name
from saetools.naming.scores.base import SCORERS, Score, ScorerConfig, Trial, score_of
from saetools.naming.scores.claims import claims_something
from saetools.naming.scores.context import ScoringContext, Status
from saetools.naming.scores.figures import Figure
from saetools.naming.scores.substitution import substituted

__all__ = ["Observational", "ObservationalConfig"]

Ints = npt.NDArray[np.int64]
_DRAWS = 200


class ObservationalConfig(ScorerConfig):
    """What counts as firing, and whether the model is asked about words in new places."""

    threshold: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the latent's largest activation above which it fires",
    )
    n_substituted: int = Field(
        default=0,
        ge=0,
        description="held-out contexts into which a claimed word is put, to run the model on; "
        "0 asks no model",
    )


@SCORERS.register("observational")
class Observational:
    """F1 of "E" against "fires", with both error rates in `details`."""

    Config = ObservationalConfig
    needs: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def score(
        trials: Sequence[Trial], context: ScoringContext, config: ObservationalConfig
    ) -> list[Score]:
        """One score for each trial."""
        words = _Words(context)
        weights = np.random.default_rng((context.seed, 4)).multinomial(
            max(words.n_docs, 1), np.full(max(words.n_docs, 1), 1 / max(words.n_docs, 1)), _DRAWS
        )
        return [_score(trial, context, config, words, weights.astype(float)) for trial in trials]


class _Words:
    """The held-out words, and the document of each."""

    def __init__(self, context: ScoringContext) -> None:
        held_out = context.held_out
        self.occurrence = held_out.occurrence
        first = np.flatnonzero(np.diff(self.occurrence, prepend=-1))
        docs, self.doc = np.unique(held_out.doc[first], return_inverse=True)
        self.n_docs, self.n = len(docs), len(first)

    def of(self, rows: Ints) -> Ints:
        """The words that some rows belong to, each once."""
        return np.unique(self.occurrence[rows])

    def by_doc(self, words: Ints) -> npt.NDArray[np.float64]:
        """How many of some words lie in each document."""
        return np.bincount(self.doc[words], minlength=self.n_docs).astype(np.float64)


def _score(
    trial: Trial,
    context: ScoringContext,
    config: ObservationalConfig,
    words: _Words,
    weights: npt.NDArray[np.float64],
) -> Score:
    latent = trial.name.latent
    firings = context.firings(latent)
    line = config.threshold * float(context.index.max_act[latent])
    fired = words.of(firings.row[firings.value > line])

    def measure(name: Name) -> Figure | Status:
        if not claims_something(name):
            return "no claim"
        if not len(fired):
            return "silent"
        claimed = words.of(context.claims.rows(name))
        return _figure(claimed, fired, words, weights)

    found = score_of("observational", trial, float(context.index.firing_rate[latent]), measure)
    if config.n_substituted and found.status == "scored":
        extra = substituted(trial.name, context, n=config.n_substituted, threshold=line)
        return Score(**{**vars(found), "details": {**found.details, **extra}})
    return found


def _figure(claimed: Ints, fired: Ints, words: _Words, weights: npt.NDArray[np.float64]) -> Figure:
    both = words.by_doc(np.intersect1d(claimed, fired, assume_unique=True))
    in_e, on = words.by_doc(claimed), words.by_doc(fired)
    tp, n_e, n_on = float(both.sum()), float(in_e.sum()), float(on.sum())
    drawn_on = weights @ (in_e + on)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = 2 * (weights @ both) / drawn_on
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    precision, recall = tp / n_e if n_e else np.nan, tp / n_on
    details = {
        "type_1": 1 - recall,
        "type_2": 1 - precision,
        "precision": precision,
        "recall": recall,
        "f1": 2 * tp / (n_e + n_on),
        "fires_outside_fraction": (n_on - tp) / max(words.n - n_e, 1),
    }
    value = details["f1"]
    return Figure(value, float(low), float(high), int(n_on), words.n - int(n_on), details)
