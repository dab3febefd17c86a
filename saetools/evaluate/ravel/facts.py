"""Which facts the model knows, and its activation at the last token of the entity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saetools import progress
from saetools.corpus import Question
from saetools.evaluate.documents import document_batches
from saetools.models.base import LanguageModel

__all__ = ["Fact", "KnownFacts", "known_facts"]

_BATCH_TOKENS = 1024


class Fact(NamedTuple):
    """A question that the model answers rightly.

    Args:
        question: the question.
        ids: tokens of its prompt.
        place: position of the entity's last token.
        answer: first token of the answer.
    """

    question: Question
    ids: tuple[int, ...]
    place: int
    answer: int


@dataclass(frozen=True)
class KnownFacts:
    """The facts that the model knows.

    Args:
        facts: those it answers rightly.
        x: activation at each one's entity, (n, d_in).
        n_asked: questions that were put to it.
        n_untold: questions left out, since their tokens do not end with the entity or the prompt.
    """

    facts: tuple[Fact, ...]
    x: Float[Tensor, "n d_in"]
    n_asked: int
    n_untold: int


def known_facts(
    model: LanguageModel, hook_name: str, questions: Sequence[Question], *, limit: int, seed: int
) -> KnownFacts:
    """Ask the model, and keep the questions whose first answer token it finds most likely."""
    if len(questions) > limit:
        rng = np.random.default_rng([seed, 0xFAC7])
        questions = [questions[i] for i in np.sort(rng.permutation(len(questions))[:limit])]
    told = [fact for fact in _told(model, questions) if fact is not None]
    batches = document_batches(
        model, [fact.ids for fact in told], ctx_len=None, batch_tokens=_BATCH_TOKENS
    )
    right = np.zeros(len(told), dtype=bool)
    x = torch.zeros(len(told), model.width(hook_name))
    with progress.task("facts", total=len(told), unit="questions") as task:
        for batch in batches:
            last = batch.tokens.mask.sum(1) - 1
            row = torch.arange(len(last), device=last.device)
            said = model.logits(batch.tokens)[row, last].argmax(-1).tolist()
            seen = model.activations(batch.tokens, [hook_name])[hook_name]
            for i, number in enumerate(batch.places.tolist()):
                right[number] = said[i] == told[number].answer
                x[number] = seen[i, told[number].place].float().cpu()
            task.advance(len(batch.places))
    kept = np.flatnonzero(right)
    return KnownFacts(
        tuple(told[i] for i in kept),
        x[torch.as_tensor(kept)],
        len(questions),
        len(questions) - len(told),
    )


def _told(model: LanguageModel, questions: Sequence[Question]) -> list[Fact | None]:
    """Tokens of each question; None where entity or answer do not begin or end with a token."""
    ends = [q.prompt.rfind(q.entity) + len(q.entity) if q.entity else 0 for q in questions]
    prompts = _ids(model, [q.prompt for q in questions])
    heads = _ids(model, [q.prompt[:end] for q, end in zip(questions, ends, strict=True)])
    wholes = _ids(model, [q.prompt + q.answer for q in questions])
    found: list[Fact | None] = []
    for question, prompt, head, whole in zip(questions, prompts, heads, wholes, strict=True):
        has_entity = question.entity and question.entity in question.prompt and question.attribute
        fits = head == prompt[: len(head)] and prompt == whole[: len(prompt)]
        if has_entity and fits and len(whole) > len(prompt):
            found.append(Fact(question, prompt, len(head) - 1, whole[len(prompt)]))
        else:
            found.append(None)
    return found


def _ids(model: LanguageModel, texts: list[str]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for start in range(0, len(texts), 1024):
        tokens = model.tokenize(texts[start : start + 1024])
        lengths = tokens.mask.sum(1).tolist()
        found += (
            tuple(row[:length]) for row, length in zip(tokens.ids.tolist(), lengths, strict=True)
        )
    return found
