"""A few questions with what the model answered before and after: for the eye, not for statistics.

They are taken at even steps from each form, before anything was answered, so nobody has chosen them
by what they show. Answers are greedy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from saetools.corpus import Question
from saetools.evaluate.unlearning import Candidate, UnlearningData
from saetools.evaluate.unlearning.answers import continuations, read_answers
from saetools.evaluate.unlearning.generate import continue_greedily

__all__ = ["Example", "record_examples"]

Group = Literal["forget", "neighbours", "retain"]

_N_FORGET = 9
_N_KEPT = 4
_MORE_TOKENS = 4


@dataclass(frozen=True)
class Example:
    """A question, and what models make of it.

    Args:
        group: what it is about.
        entity: the same by name, "" if unknown.
        form: of the question.
        prompt: what the models were given.
        answer: the right one.
        chance: probability that a guess is right; None without options.
        replies: greedy continuation by model: "original", "edited", "oracle-0".
        probability: of the right answer among its options; without options, a token's mean.
    """

    group: Group
    entity: str
    form: str
    prompt: str
    answer: str
    chance: float | None
    replies: Mapping[str, str]
    probability: Mapping[str, float]


def record_examples(
    models: Mapping[str, Candidate], data: UnlearningData, *, batch_tokens: int
) -> tuple[Example, ...]:
    """Ask all models the same few questions.

    Args:
        models: by the name that the answers are to have.
        data: where the questions come from.
        batch_tokens: tokens in one forward pass, padding included.
    """
    groups: dict[Group, Sequence[Question]] = {"forget": _spread(data.forget, _N_FORGET)}
    near = _spread(data.near, _N_KEPT)
    kept = near or _spread(data.retain, _N_KEPT)
    if kept:
        groups["neighbours" if near else "retain"] = kept
    found: list[Example] = []
    for group, questions in groups.items():
        replies = {name: _replies(model, questions, batch_tokens) for name, model in models.items()}
        answers = {
            name: read_answers(model, questions, batch_tokens=batch_tokens).option_probability
            for name, model in models.items()
        }
        found += [
            Example(
                group,
                one.entity,
                one.form,
                one.prompt,
                one.answer,
                one.chance,
                {name: replies[name][i] for name in models},
                {name: float(answers[name][i]) for name in models},
            )
            for i, one in enumerate(questions)
        ]
    return tuple(found)


def _spread(questions: Sequence[Question], n: int) -> tuple[Question, ...]:
    """At most `n` questions, as many of each form, at even steps that differ from form to form."""
    by_form: dict[str, list[Question]] = {}
    for question in questions:
        by_form.setdefault(question.form, []).append(question)
    each = max(1, n // max(1, len(by_form)))
    chosen = []
    for at, some in enumerate(by_form.values()):
        shift, taken = (at + 0.5) / len(by_form), min(each, len(some))
        chosen += [some[int((i + shift) * len(some) / taken)] for i in range(taken)]
    return tuple(chosen[:n])


def _replies(model: Candidate, questions: Sequence[Question], batch_tokens: int) -> list[str]:
    rows = continuations(model, [(q.prompt, q.answer) for q in questions])
    continued = continue_greedily(
        model,
        [row.ids[: row.start] for row in rows],
        [len(row.ids) - row.start + _MORE_TOKENS for row in rows],
        batch_tokens=batch_tokens,
    )
    return [str(model.tokenizer.decode(ids, skip_special_tokens=True)) for ids in continued]
