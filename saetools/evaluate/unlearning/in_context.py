"""In-context recovery: is the answer given once the fact stands in the context?

Before each forget question stands the same fact in another form. The figure is the accuracy on
these longer prompts, 0 to 1. A model whose *use* of the knowledge was to be prevented should be at
chance; a model that only lost the fact may read it off the context, as the oracle does, so compare
with the oracle and not with 0. Source: UnUnlearning (Shumailov et al. 2024, arXiv:2407.00106,
abstract).

Where it lies: a small model may not be able to read facts off its context at all; then the
oracle's figure is at chance, too, and nothing follows.
"""

from collections.abc import Sequence
from dataclasses import replace

from saetools.corpus import Question
from saetools.errors import ConfigError
from saetools.evaluate.base import Figure
from saetools.evaluate.unlearning.bench import Bench, Finding, Measured
from saetools.evaluate.unlearning.candidate import Missing

__all__ = ["in_context", "with_fact_in_context"]

_RECOVERY = Figure("in_context", "accuracy with the fact put before the question", "none", (0, 1))


def with_fact_in_context(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Each question after its fact in another form; those of a single form are left out."""
    found = []
    for question in questions:
        told = [
            other
            for other in questions
            if (other.entity, other.attribute) == (question.entity, question.attribute)
            and other.form != question.form
            and question.entity
        ]
        if told:
            fact = f"{told[0].prompt}{told[0].answer}".rstrip()
            stop = "" if fact.endswith((".", "!", "?")) else "."
            found.append(replace(question, prompt=f"{fact}{stop}\n{question.prompt}"))
    return tuple(found)


def in_context(bench: Bench) -> Measured:
    """Accuracy on forget questions with the fact in the context, of every model.

    Raises:
        Missing: no fact is asked in two forms, or the longer prompts do not fit.
    """
    questions = with_fact_in_context(bench.questions("forget"))
    if not questions:
        raise Missing("no forget fact is asked in two forms")
    draws = bench.draws(questions, stream="forget")
    try:
        right = {m: bench.ask(candidate, questions).right for m, candidate in bench.models.items()}
    except ConfigError as error:
        raise Missing(f"a question with its fact before it is too long: {error}") from error
    return Measured(tuple(Finding(_RECOVERY, draws.mean(r), m) for m, r in right.items()))
