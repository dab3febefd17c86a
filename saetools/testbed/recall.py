"""How many of its facts a language model knows, form by form.

`choice` is the share of questions where the right option is more probable than every other one;
`greedy` the share where the right answer is also the most probable of all continuations, token by
token. Both run from 0 to 1, higher is better; chance is that of `choice`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.corpus import Question
from saetools.models.base import LanguageModel
from saetools.progress import task

__all__ = ["Recall", "answered", "recall_of"]

_ROWS = 256


@dataclass(frozen=True)
class Recall:
    """How a set of questions was answered.

    Args:
        n: number of questions.
        choice: share where the right option is the most probable of the options.
        greedy: share where the right answer is what the model would write.
        chance: mean share of right choices of one who knows nothing.
    """

    n: int
    choice: float
    greedy: float
    chance: float


def recall_of(model: LanguageModel, questions: Sequence[Question]) -> dict[str, Recall]:
    """Recall by form, in order of first appearance.

    Args:
        model: the language model.
        questions: questions with options, of one or several forms.
    """
    found: dict[str, list[tuple[bool, bool, float]]] = defaultdict(list)
    for question, (choice, greedy) in zip(questions, answered(model, questions), strict=True):
        found[question.form].append((choice, greedy, question.chance or 0.0))
    return {
        form: Recall(len(rows), *(sum(column) / len(rows) for column in zip(*rows, strict=True)))
        for form, rows in found.items()
    }


def answered(model: LanguageModel, questions: Sequence[Question]) -> tuple[tuple[bool, bool], ...]:
    """For each question, whether the right option is chosen, and whether it would be written."""
    tokenizer: Any = model.tokenizer
    parts = [_Cut(tokenizer, question) for question in questions]
    found: list[tuple[bool, bool]] = []
    with task("questions", total=len(questions), unit="questions") as shown:
        for some in _batches(parts):
            rows = [row for cut in some for row in cut.rows]
            scores, greedy = _scored(model, rows, [cut for cut in some for _ in cut.rows])
            at = 0
            for cut in some:
                mine = slice(at, at + len(cut.rows))
                found.append(cut.verdict(scores[mine], greedy[mine]))
                at += len(cut.rows)
            shown.advance(len(some))
    return tuple(found)


class _Cut:
    """A question as token ids.

    Where all options are one token each, one row of the prompt says all; else each option is a row.
    """

    def __init__(self, tokenizer: Any, question: Question) -> None:
        def ids(text: str) -> list[int]:
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])

        options = question.options or (question.answer,)
        self.prompt = [tokenizer.bos_token_id, *ids(question.prompt)]
        self.options = [ids(option) for option in options]
        self.right = options.index(question.answer)
        self.short = all(len(option) == 1 for option in self.options)
        self.rows = (
            [[*self.prompt, self.options[self.right][0]]]
            if self.short
            else [[*self.prompt, *option] for option in self.options]
        )

    def verdict(
        self, log_probs: Sequence[Float[Tensor, "n vocab"]], greedy: Sequence[bool]
    ) -> tuple[bool, bool]:
        """(chosen, written)."""
        if self.short:
            scores = log_probs[0][0, [option[0] for option in self.options]]
            return bool(scores.argmax() == self.right), greedy[0]
        totals = torch.stack(
            [
                rows.gather(1, torch.tensor(option)[:, None]).sum()
                for rows, option in zip(log_probs, self.options, strict=True)
            ]
        )
        return bool(totals.argmax() == self.right), greedy[self.right]


def _batches(parts: Sequence[_Cut]) -> Iterable[list[_Cut]]:
    some: list[_Cut] = []
    n_rows = 0
    for cut in parts:
        some.append(cut)
        n_rows += len(cut.rows)
        if n_rows >= _ROWS:
            yield some
            some, n_rows = [], 0
    if some:
        yield some


def _scored(
    model: LanguageModel, rows: Sequence[Sequence[int]], cuts: Sequence[_Cut]
) -> tuple[list[Float[Tensor, "n vocab"]], list[bool]]:
    """For each row: log-probabilities at the places of its answer, and whether all are foremost."""
    logits = model.logits(model.tokenize(rows)).float().cpu()
    scores, greedy = [], []
    for row, cut, of_row in zip(rows, cuts, logits, strict=True):
        first = len(cut.prompt)
        at = of_row[first - 1 : len(row) - 1].log_softmax(-1)
        scores.append(at)
        greedy.append(bool((at.argmax(-1) == torch.tensor(row[first:])).all()))
    return scores, greedy
