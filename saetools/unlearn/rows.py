"""What a method learns to forget and to keep: rows of token ids, and from where on they count.

A question counts from its answer on, a text from its first token on. What stands on both sides, in
words or as an entity, is an error: a method would be told to forget and to keep it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from saetools.corpus import Question
from saetools.errors import ConfigError
from saetools.evaluate.unlearning.answers import continuations
from saetools.models.base import LanguageModel, SubjectModel, TokenBatch

__all__ = ["Batch", "Item", "Row", "batches", "check_apart", "make_batch", "rows_of", "text_of"]

Item = Question | str
"""A question, or a text."""

_SHOWN = 5


@dataclass(frozen=True)
class Row:
    """A text as token ids.

    Args:
        ids: special tokens included.
        start: place of the first token that counts, at least 1.
        text: what the ids spell.
        entity: what it is about, "" if unknown.
    """

    ids: tuple[int, ...]
    start: int
    text: str
    entity: str = ""


@dataclass(frozen=True)
class Batch:
    """Several rows, right-padded.

    Args:
        rows: the rows.
        tokens: their tokens, (batch, pos).
        counted: True at the tokens that count, (batch, pos).
    """

    rows: tuple[Row, ...]
    tokens: TokenBatch
    counted: Bool[Tensor, "batch pos"]


def text_of(item: Item) -> str:
    """A text as it is, a question with its answer."""
    return item if isinstance(item, str) else f"{item.prompt}{item.answer}"


def check_apart(forget: Sequence[Item], retain: Sequence[Item]) -> None:
    """Refuse sets that overlap, naming what stands in both.

    Raises:
        ConfigError: there is nothing to forget or nothing to keep, a text or an entity is in both.
    """
    if not forget or not retain:
        raise ConfigError(
            f"asked to unlearn with {len(forget)} forget and {len(retain)} retain texts or "
            "questions; give at least one of each: without the latter nothing says what must stay"
        )
    kept = {_spelling(text_of(item)) for item in retain}
    twice = list(dict.fromkeys(text_of(i) for i in forget if _spelling(text_of(i)) in kept))
    if twice:
        raise ConfigError(
            f"{len(twice)} texts are to be forgotten and to be kept: {_some(twice)}; take them out "
            "of one of the two sets"
        )
    both = _entities(forget) & _entities(retain)
    if both:
        raise ConfigError(
            f"{len(both)} entities are to be forgotten and to be kept: {_some(sorted(both))}; put "
            "all questions of an entity on one side"
        )


def rows_of(model: SubjectModel, items: Sequence[Item]) -> tuple[Row, ...]:
    """Texts and questions as rows, in their order; texts are cut at the model's context.

    Raises:
        ConfigError: a question does not fit into the context, or a text has no token to predict.
    """
    questions = [item for item in items if not isinstance(item, str)]
    asked = iter(_asked(model, questions))
    return tuple(_read(model, item) if isinstance(item, str) else next(asked) for item in items)


def make_batch(model: SubjectModel, rows: Sequence[Row]) -> Batch:
    """Tokens of several rows, and which of them count."""
    tokens = model.tokenize([row.ids for row in rows])
    place = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
    starts = torch.tensor([row.start for row in rows], device=place.device)
    return Batch(tuple(rows), tokens, tokens.mask & (place >= starts[:, None]))


def batches(
    model: SubjectModel, rows: Sequence[Row], *, size: int, seed: int, stream: int = 0
) -> Iterator[Batch]:
    """Batches for ever; every row once before any comes again."""
    rng = np.random.default_rng([seed, 0x0F0E, stream])
    waiting: list[int] = []
    while True:
        while len(waiting) < min(size, len(rows)):
            waiting += rng.permutation(len(rows)).tolist()
        yield make_batch(model, [rows[i] for i in waiting[:size]])
        waiting = waiting[size:]


def _asked(model: SubjectModel, questions: Sequence[Question]) -> list[Row]:
    if not questions:
        return []
    if not isinstance(model, LanguageModel):  # an encoder reads questions as texts
        return [_read(model, text_of(q), q.entity) for q in questions]
    found = continuations(model, [(q.prompt, q.answer) for q in questions])
    return [
        Row(one.ids, one.start, text_of(q), q.entity)
        for one, q in zip(found, questions, strict=True)
    ]


def _read(model: SubjectModel, text: str, entity: str = "") -> Row:
    tokens = model.tokenize([text])
    ids = tuple(tokens.ids[0, tokens.mask[0]].tolist())
    if len(ids) < 2:
        raise ConfigError(
            f"the text {text[:40]!r} has {len(ids)} tokens, and there is nothing to predict in it; "
            "leave it out"
        )
    return Row(ids, 1, text, entity)


def _spelling(text: str) -> str:
    return " ".join(text.casefold().split())


def _entities(items: Sequence[Item]) -> set[str]:
    return {item.entity for item in items if not isinstance(item, str) and item.entity}


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
