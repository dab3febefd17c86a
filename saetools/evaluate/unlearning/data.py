"""What unlearning is evaluated on: questions that are to be forgotten, kept, and nearest to those.

Use other templates here than those that the unlearning was trained on, and choose no setting by
these questions: both make every score too good.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from saetools.corpus import Question
from saetools.errors import ConfigError

__all__ = ["TextSpan", "TokenClass", "UnlearningData", "neighbours_of"]

TokenClass = Literal["concept", "neighbour", "unrelated"]


class TextSpan(NamedTuple):
    """Characters `start` to `end` of text number `text`, and the class of their tokens."""

    text: int
    start: int
    end: int
    token_class: TokenClass


@dataclass(frozen=True)
class UnlearningData:
    """Questions and texts that an evaluation of unlearning reads.

    Args:
        forget: questions about what is to be forgotten.
        retain: questions about everything else that the original model knows.
        neighbours: the retain questions nearest to the forgotten ones; by default those that ask
            for an attribute that a forget question asks for, of another entity.
        texts: texts about neither, on which the model must stay as good as it was.
        spans: which parts of the texts are about the concept or its neighbours after all; by
            default the sentences that name one of their entities, from the name on.
        forget_texts: texts that the original was trained on and the oracle was not.
        holdout_texts: texts like them that no model was trained on; not like them, they measure
            the difference in topic and not privacy.

    Raises:
        ConfigError: no forget question, or an entity that is to be forgotten and kept.
    """

    forget: tuple[Question, ...]
    retain: tuple[Question, ...] = ()
    neighbours: tuple[Question, ...] | None = None
    texts: tuple[str, ...] = ()
    spans: tuple[TextSpan, ...] | None = None
    forget_texts: tuple[str, ...] = ()
    holdout_texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.forget:
            raise ConfigError(
                f"asked to evaluate forgetting and got no forget question beside {len(self.retain)}"
                " retain questions; give at least one question about what is to be forgotten"
            )
        both = {q.entity for q in self.forget if q.entity} & {q.entity for q in self.retain}
        if both:
            raise ConfigError(
                f"{', '.join(sorted(both)[:3])}: to be forgotten and to be kept; put all questions "
                "of an entity on one side"
            )

    @classmethod
    def split(
        cls,
        questions: Sequence[Question],
        *,
        forget_entities: Collection[str],
        texts: Sequence[str] = (),
        forget_texts: Sequence[str] = (),
        holdout_texts: Sequence[str] = (),
    ) -> "UnlearningData":
        """Split questions by their entities."""
        wanted = set(forget_entities)
        return cls(
            forget=tuple(q for q in questions if q.entity in wanted),
            retain=tuple(q for q in questions if q.entity not in wanted),
            texts=tuple(texts),
            forget_texts=tuple(forget_texts),
            holdout_texts=tuple(holdout_texts),
        )

    @property
    def near(self) -> tuple[Question, ...]:
        """The neighbours, given or derived."""
        if self.neighbours is not None:
            return self.neighbours
        return neighbours_of(self.forget, self.retain)


def neighbours_of(forget: Sequence[Question], retain: Sequence[Question]) -> tuple[Question, ...]:
    """Retain questions that ask for an attribute that a forget question asks for.

    Where questions say no attribute there is nothing to tell near from far, and none is returned.
    """
    asked = {question.attribute for question in forget if question.attribute}
    return tuple(question for question in retain if question.attribute in asked)
