"""Utility: is the model as good a language model as it was, on texts about something else?

    U = exp(-max(0, CE_edited - CE_original)),

CE in nats a token over all tokens of the texts. Range 0 to 1, higher is better; 1 is "no worse".
Definition: card 20 of our methods; U is the ratio of the perplexities.

Where it lies: an average over many tokens hides damage to a rare topic; see `neighbours_kept`.
"""

import numpy as np

from saetools.evaluate.base import Figure
from saetools.evaluate.bootstrap import Estimate
from saetools.evaluate.unlearning.bench import EDITED, ORIGINAL, Bench, Finding, Measured

__all__ = ["UTILITY", "utility"]

UTILITY = Figure(
    "utility", "U: perplexity on other texts before, by that after; 1 if no worse", "higher", (0, 1)
)
_CE = Figure("ce", "cross-entropy on other texts, nats a token", "lower", (0, np.inf))


def utility(bench: Bench) -> Measured:
    """U of the edited model and the oracles, cross-entropy of every model."""
    draws = bench.text_draws(len(bench.data.texts), stream="texts")
    ce = {}
    for model in bench.models:
        reading = bench.reading(model, "texts")
        ce[model] = draws.ratio(reading.loss_sum, reading.n_tokens)
    return Measured(
        (
            *(
                Finding(
                    UTILITY,
                    Estimate.of(
                        lambda now, before: np.exp(-np.maximum(now - before, 0)),
                        ce[model],
                        ce[ORIGINAL],
                    ),
                    model,
                )
                for model in (EDITED, *bench.oracles)
            ),
            *(Finding(_CE, estimate, model) for model, estimate in ce.items()),
        )
    )
