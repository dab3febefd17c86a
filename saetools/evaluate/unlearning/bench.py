"""The models and data of one evaluation, and what has been read off them so far.

A measure asks the bench for readings; each is made once. What it finds are figures with estimates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from saetools.corpus import Question
from saetools.evaluate.base import Curve, Figure
from saetools.evaluate.bootstrap import Estimate
from saetools.evaluate.unlearning.answers import Answers, read_answers
from saetools.evaluate.unlearning.candidate import Candidate, Missing
from saetools.evaluate.unlearning.data import UnlearningData
from saetools.evaluate.unlearning.draws import Draws, question_draws
from saetools.evaluate.unlearning.settings import UnlearningSettings
from saetools.evaluate.unlearning.texts import TextReading, read_texts

__all__ = ["EDITED", "ORIGINAL", "Bench", "Finding", "Measured", "QuestionGroup", "TextGroup"]

EDITED, ORIGINAL = "edited", "original"

QuestionGroup = Literal["forget", "retain", "neighbours"]
TextGroup = Literal["texts", "forget_texts", "holdout_texts"]


@dataclass(frozen=True)
class Finding:
    """One figure of one model.

    Args:
        figure: what it is.
        estimate: its value and resamples.
        model: "edited", "original" or "oracle-<i>".
        detail: what part of it, e.g. a form of question; "" if all.
    """

    figure: Figure
    estimate: Estimate
    model: str = EDITED
    detail: str = ""


@dataclass(frozen=True)
class Measured:
    """What one measure found."""

    findings: tuple[Finding, ...]
    curves: tuple[Curve, ...] = ()


class Bench:
    """Models under evaluation.

    Args:
        edited: the model that is to have forgotten.
        original: the model before.
        oracles: models trained without what is to be forgotten.
        data: questions and texts.
        settings: of all measures.
    """

    def __init__(
        self,
        edited: Candidate,
        original: Candidate,
        oracles: Sequence[Candidate],
        *,
        data: UnlearningData,
        settings: UnlearningSettings,
    ) -> None:
        named = {f"oracle-{i}": oracle for i, oracle in enumerate(oracles)}
        self.models: dict[str, Candidate] = {EDITED: edited, ORIGINAL: original, **named}
        self.oracles = tuple(named)
        self.data = data
        self.settings = settings
        self._answers: dict[tuple[str, tuple[Question, ...]], Answers] = {}
        self._texts: dict[tuple[str, str], TextReading] = {}

    @cached_property
    def neighbours(self) -> tuple[Question, ...]:
        """The retain questions nearest to the forgotten ones, `n_questions` at most."""
        return self._some(self.data.near)

    @cached_property
    def retain(self) -> tuple[Question, ...]:
        """The retain questions, `n_questions` at most."""
        return self._some(self.data.retain)

    def references(self, model: str) -> tuple[str, ...]:
        """The oracles to compare a model with: all but itself."""
        return tuple(oracle for oracle in self.oracles if oracle != model)

    def need_oracle(self) -> None:
        """Raise Missing if there is no oracle."""
        if not self.oracles:
            raise Missing("it compares with a model trained without the forget set; pass oracles=")

    def questions(self, group: QuestionGroup) -> tuple[Question, ...]:
        """The questions of a group.

        Raises:
            Missing: there are none.
        """
        found: tuple[Question, ...] = {
            "forget": self.data.forget,
            "retain": self.retain,
            "neighbours": self.neighbours,
        }[group]
        if not found:
            one = "neighbour" if group == "neighbours" else group
            raise Missing(f"there are no {one} questions; pass {group}= with the data")
        return found

    def answers(self, model: str, group: QuestionGroup) -> Answers:
        """What a model answers to a group of questions."""
        questions = self.questions(group)
        # All retain questions may be neighbours; they need not be asked twice.
        key = (model, questions)
        if key not in self._answers:
            self._answers[key] = self.ask(self.models[model], questions)
        return self._answers[key]

    def ask(self, candidate: Candidate, questions: Sequence[Question]) -> Answers:
        """What any model answers to any questions."""
        return read_answers(candidate, questions, batch_tokens=self.settings.batch_tokens)

    def reading(self, model: str, group: TextGroup) -> TextReading:
        """What a model makes of a group of texts.

        Raises:
            Missing: there are none.
        """
        texts: tuple[str, ...] = getattr(self.data, group)
        if not texts:
            raise Missing(f"no {group} were given")
        key = (model, group)
        if key not in self._texts:
            self._texts[key] = read_texts(
                self.models[model], texts, batch_tokens=self.settings.batch_tokens
            )
        return self._texts[key]

    def draws(self, questions: Sequence[Question], *, stream: str) -> Draws:
        """Resamples of the entities of questions, the same for every model."""
        return question_draws(
            questions, stream=stream, n_draws=self.settings.n_draws, seed=self.settings.seed
        )

    def text_draws(self, n: int, *, stream: str) -> Draws:
        """Resamples of texts, the same for every model."""
        units = np.arange(n, dtype=np.int64)
        return Draws(units, stream=stream, n_draws=self.settings.n_draws, seed=self.settings.seed)

    def _some(self, questions: tuple[Question, ...]) -> tuple[Question, ...]:
        rng = np.random.default_rng([self.settings.seed, 0x50])
        chosen = np.sort(rng.permutation(len(questions))[: self.settings.n_questions])
        return tuple(questions[i] for i in chosen)
