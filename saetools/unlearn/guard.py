"""The guard: an edit that breaks the model is refused before anyone can save it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from saetools.errors import DamageError
from saetools.models.base import LanguageModel, SubjectModel
from saetools.unlearn.rows import Item, text_of

__all__ = ["GuardReading", "check_guard"]

_MAX_TEXTS = 200


@dataclass(frozen=True)
class GuardReading:
    """Perplexity of the texts that must stay, before and after.

    Args:
        before: cross-entropy of the original, nats a token.
        after: that of the edited model.
        n_texts: how many texts it was measured on.
    """

    before: float
    after: float
    n_texts: int

    @property
    def ratio(self) -> float:
        """Perplexity after by perplexity before; 1 is no damage, lower is better."""
        return math.exp(min(self.after - self.before, 700.0))


def check_guard(
    original: SubjectModel,
    edited: SubjectModel,
    texts: Sequence[Item],
    *,
    max_ratio: float | None,
) -> GuardReading | None:
    """Measure the damage on texts; None for an encoder, which has no perplexity.

    Raises:
        DamageError: it is greater than allowed, or the edited model gives no numbers.
    """
    if not isinstance(original, LanguageModel) or not isinstance(edited, LanguageModel):
        return None
    some = [text_of(item) for item in texts[:: max(1, len(texts) // _MAX_TEXTS)]][:_MAX_TEXTS]
    reading = GuardReading(original.loss(some), edited.loss(some), len(some))
    broken = math.isnan(reading.after)
    if max_ratio is not None and (broken or reading.ratio > max_ratio):
        raise DamageError(
            f"the edit was refused: on {len(some)} texts that must stay, perplexity grew from "
            f"{math.exp(reading.before):.3g} to "
            f"{'no number' if broken else f'{reading.ratio:.3g} times that'}, and "
            f"max_perplexity_ratio is {max_ratio:g}; nothing was saved. Weaken the method (fewer "
            "steps, a lower rate or strength, more retain rows), or allow more damage"
        )
    return reading
