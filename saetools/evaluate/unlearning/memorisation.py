"""Verbatim and knowledge memorisation: what comes out when the model goes on by itself.

Verbatim: mean ROUGE-L F1 between the greedy continuation of a forget text's beginning and its true
continuation, both at most `continuation_tokens` long. Knowledge: mean ROUGE-L F1 between the greedy
answer to a question and the right one, generated at its length in tokens, `answer_tokens` at most.
Range 0 to 1 (MUSE prints 100 times this). Forget: want no more than the oracle; else higher is
better. Source: MUSE, criteria 1, 2 and 4 (Shi et al. 2024, arXiv:2407.06460), which puts worked
examples before each question; here put them into the prompts where the model needs them.

Where they lie: gibberish scores 0, which counts as forgotten; see `utility`. Greedy only: a sampled
answer may still hold the fact.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from saetools.corpus import Question
from saetools.evaluate.base import Figure
from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.unlearning.answers import Continuation, continuations
from saetools.evaluate.unlearning.bench import Bench, Finding, Measured, QuestionGroup
from saetools.evaluate.unlearning.candidate import Candidate, Missing
from saetools.evaluate.unlearning.generate import continue_greedily
from saetools.evaluate.unlearning.rouge import rouge_l

__all__ = ["knowledge", "verbatim"]

T = TypeVar("T")

_VERBATIM = Figure(
    "verbatim", "ROUGE-L of a continued forget text and the true one", "lower", (0, 1)
)


def verbatim(bench: Bench) -> Measured:
    """Verbatim memorisation of the forget texts by every model.

    Raises:
        Missing: no forget text is long enough to be continued.
    """
    texts = _some(bench.data.forget_texts, bench)
    if not texts:
        raise Missing("no forget_texts were given")
    draws = bench.text_draws(len(texts), stream="forget_texts")
    return Measured(
        tuple(
            Finding(_VERBATIM, draws.mean(_verbatim_scores(bench, candidate, texts)), model)
            for model, candidate in bench.models.items()
        )
    )


def knowledge(bench: Bench) -> Measured:
    """Knowledge memorisation of forget, retain and neighbour questions by every model."""
    groups: tuple[QuestionGroup, ...] = ("forget", "retain", "neighbours")
    findings = []
    for group in groups:
        try:
            questions = _some(bench.questions(group), bench)
        except Missing:
            continue
        figure = Figure(
            "knowledge",
            "ROUGE-L of greedy answers and the right ones",
            "lower" if group == "forget" else "higher",
            (0, 1),
        )
        draws = bench.draws(questions, stream=group)
        findings += [
            Finding(figure, draws.mean(_answer_scores(bench, candidate, questions)), model, group)
            for model, candidate in bench.models.items()
        ]
    return Measured(tuple(findings))


def _some(items: Sequence[T], bench: Bench) -> tuple[T, ...]:
    """At most `n_texts` of the items, the same for every model."""
    rng = np.random.default_rng([bench.settings.seed, 0x6E])
    chosen = np.sort(rng.permutation(len(items))[: bench.settings.generate.n_texts])
    return tuple(items[i] for i in chosen)


def _verbatim_scores(bench: Bench, candidate: Candidate, texts: Sequence[str]) -> Floats:
    rows = []
    for text in texts:
        tokens = candidate.tokenize([text])
        ids = tuple(tokens.ids[0][tokens.mask[0]].tolist())
        # At least one token is shown, and one is left to say.
        start = min(
            max(1, int(len(ids) * bench.settings.generate.prefix_fraction)), max(1, len(ids) - 1)
        )
        rows.append(Continuation(ids, start))
    return _scores(bench, candidate, rows, longest=bench.settings.generate.continuation_tokens)


def _answer_scores(bench: Bench, candidate: Candidate, questions: Sequence[Question]) -> Floats:
    rows = continuations(candidate, [(q.prompt, q.answer) for q in questions])
    return _scores(bench, candidate, rows, longest=bench.settings.generate.answer_tokens)


def _scores(
    bench: Bench, candidate: Candidate, rows: Sequence[Continuation], *, longest: int
) -> Floats:
    truth = [row.ids[row.start :][:longest] for row in rows]
    said = continue_greedily(
        candidate,
        [row.ids[: row.start] for row in rows],
        [len(ids) for ids in truth],
        batch_tokens=bench.settings.batch_tokens,
    )
    decode = candidate.tokenizer.decode
    return np.array(
        [rouge_l(decode(list(s)), decode(list(t))).f1 for s, t in zip(said, truth, strict=True)]
    )
