"""Distance to the oracle: KL(oracle || model) of next-token distributions, by class of token.

Classes: "concept", answers to forget questions, and what the texts say from a forgotten entity's
name to the end of its sentence; "neighbour", the same of the neighbours; "unrelated", all other
tokens of the texts. Spans that are given with the texts stand in the place of the names. Nats a
token, 0 upwards, lower is better; the mean over the oracles. An oracle against the other oracles is
the noise floor: no edit needs to come nearer than that.

Where there is an oracle this is the best single target (card 20 of our methods): a concept that
was only suppressed, and one that was damaged beyond what the oracle does not know, both show.
Where it lies: oracles that differ by more than the forget set (other data order, other seed) differ
everywhere.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.corpus import Question
from saetools.evaluate.base import Figure
from saetools.evaluate.bootstrap import Estimate, Floats
from saetools.evaluate.documents import document_batches
from saetools.evaluate.unlearning.answers import FLOOR, continuations
from saetools.evaluate.unlearning.bench import ORIGINAL, Bench, Finding, Measured
from saetools.evaluate.unlearning.candidate import Candidate, Missing
from saetools.evaluate.unlearning.data import TokenClass
from saetools.evaluate.unlearning.draws import Draws

__all__ = ["divergence", "kl", "sentence_spans"]

_CLASSES: tuple[TokenClass, ...] = ("concept", "neighbour", "unrelated")
_KL = Figure(
    "kl_to_oracle", "KL(oracle || model) of next tokens, nats a token", "lower", (0, np.inf)
)


@dataclass(frozen=True)
class _Row:
    """Token ids, the class of each (None: not counted), and the unit they are resampled with."""

    ids: tuple[int, ...]
    classes: tuple[TokenClass | None, ...]
    unit: str


def divergence(bench: Bench) -> Measured:
    """KL from the oracles to every model, by class of token.

    Raises:
        Missing: no oracle, or models of different vocabularies.
    """
    bench.need_oracle()
    candidate = bench.models[ORIGINAL]
    rows = [
        *_answer_rows(candidate, bench.questions("forget"), "concept"),
        *_answer_rows(candidate, bench.neighbours, "neighbour"),
        *_text_rows(bench),
    ]
    units = {unit: i for i, unit in enumerate(dict.fromkeys(row.unit for row in rows))}
    draws = Draws(
        np.array([units[row.unit] for row in rows], dtype=np.int64),
        stream="divergence",
        n_draws=bench.settings.n_draws,
        seed=bench.settings.seed,
    )
    sums = _sums(bench, rows)
    n_tokens = {c: np.array([row.classes.count(c) for row in rows], dtype=float) for c in _CLASSES}
    findings = []
    for model in bench.models:
        for c in (c for c in _CLASSES if n_tokens[c].any()):
            others = [
                draws.ratio(sums[model, oracle][:, _CLASSES.index(c)], n_tokens[c])
                for oracle in bench.references(model)
            ]
            if others:
                mean = Estimate.of(lambda *v: np.mean(v, axis=0), *others)
                findings.append(Finding(_KL, mean, model, c))
    return Measured(tuple(findings))


def kl(
    reference: Float[Tensor, "*rows vocab"], other: Float[Tensor, "*rows vocab_of_other"]
) -> Float[Tensor, "*rows"]:
    """KL(reference || other) of logits over the last axis, in nats, at least 0."""
    if reference.shape[-1] != other.shape[-1]:
        raise Missing(
            f"vocabularies differ: {reference.shape[-1]} and {other.shape[-1]} next tokens"
        )
    p = torch.log_softmax(reference.float(), dim=-1)
    q = torch.log_softmax(other.to(p.device).float(), dim=-1)
    q = torch.nan_to_num(q, nan=FLOOR, neginf=FLOOR)
    here = p.exp()
    return torch.where(here > 0, here * (p - q), 0.0).sum(-1).clamp_min(0.0)


def sentence_spans(text: str, names: Iterable[str]) -> list[tuple[int, int]]:
    """From each whole-word mention of a name to the end of its sentence, as (start, end)."""
    spans = []
    for name in names:
        for mention in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text):
            end = re.compile(r"[.!?](?=\s|$)|\n").search(text, mention.end())
            spans.append((mention.start(), end.end() if end else len(text)))
    return spans


def _sums(bench: Bench, rows: Sequence[_Row]) -> dict[tuple[str, str], Floats]:
    """Sum of KL by row and class, (n_rows, 3), of every model to every other oracle."""
    pairs = [(model, oracle) for model in bench.models for oracle in bench.references(model)]
    sums = {pair: np.zeros((len(rows), len(_CLASSES))) for pair in pairs}
    batches = document_batches(
        bench.models[ORIGINAL],
        [row.ids for row in rows],
        ctx_len=None,
        batch_tokens=bench.settings.batch_tokens,
    )
    for batch in batches:
        with torch.no_grad():
            logits = {m: c.logits(batch.tokens)[:, :-1] for m, c in bench.models.items()}
        for model, oracle in pairs:
            values = kl(logits[oracle], logits[model]).double().cpu().numpy()
            for b, place in enumerate(batch.places):
                for pos, c in enumerate(rows[place].classes[1:]):
                    if c is not None:
                        sums[model, oracle][place, _CLASSES.index(c)] += values[b, pos]
    return sums


def _answer_rows(candidate: Candidate, questions: Sequence[Question], c: TokenClass) -> list[_Row]:
    rows = continuations(candidate, [(q.prompt, q.answer) for q in questions])
    return [
        _Row(row.ids, (None,) * row.start + (c,) * (len(row.ids) - row.start), q.entity or q.prompt)
        for row, q in zip(rows, questions, strict=True)
    ]


def _text_rows(bench: Bench) -> list[_Row]:
    candidate = bench.models[ORIGINAL]
    names: dict[TokenClass, set[str]] = {
        "concept": {q.entity for q in bench.data.forget if q.entity},
        "neighbour": {q.entity for q in bench.neighbours if q.entity},
    }
    found = []
    for i, text in enumerate(bench.data.texts):
        tokens = candidate.tokenize([text])
        ids = tuple(tokens.ids[0][tokens.mask[0]].tolist())
        if bench.data.spans is None:
            spans = {c: sentence_spans(text, names[c]) for c in names}
        else:
            here = [span for span in bench.data.spans if span.text == i]
            spans = {c: [(s.start, s.end) for s in here if s.token_class == c] for c in names}
        if not any(spans.values()):
            none: TokenClass = "unrelated"
            found.append(_Row(ids, (none,) * len(ids), f"text {i}"))
            continue
        ends = _character_ends(candidate, text)
        lead = (0,) * (len(ids) - min(len(ids), len(ends)))
        classes = tuple(_class_at(end, spans) for end in (*lead, *ends))[: len(ids)]
        found.append(_Row(ids, classes, f"text {i}"))
    return found


def _class_at(end: int, spans: dict[TokenClass, list[tuple[int, int]]]) -> TokenClass:
    for c, found in spans.items():
        if any(start < end <= stop for start, stop in found):
            return c
    return "unrelated"


def _character_ends(candidate: Candidate, text: str) -> list[int]:
    """Where each token of a text ends, in characters, special tokens left out."""
    if not getattr(candidate.tokenizer, "is_fast", False):
        raise Missing("the tokenizer does not say where in the text a token stands")
    encoded = candidate.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return [int(end) for _, end in encoded["offset_mapping"]]
