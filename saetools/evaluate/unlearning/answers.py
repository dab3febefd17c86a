"""What a model makes of questions: the probability of each answer, and of each of its tokens.

Everything is teacher-forced: the answer stands after its prompt, and the model says how probable
each token of it was. Nothing is generated here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from saetools.corpus import Question
from saetools.errors import ConfigError
from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.documents import document_batches
from saetools.evaluate.unlearning.candidate import Candidate

__all__ = ["FLOOR", "Answers", "Continuation", "continuations", "read_answers"]

FLOOR = -1e4
"""Log-probability, in nats, of a token to which a broken model gives no finite one."""

_CHUNK = 256
_TIE = 1e-6

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Continuation:
    """A prompt and an answer as token ids.

    Args:
        ids: of both, special tokens included.
        start: place of the answer's first token, at least 1.
    """

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Answers:
    """What one model makes of `questions`, in their order.

    Args:
        questions: as they were asked.
        token_logprob: log-probability of each token of the right answer, in nats.
        token_right: whether that token was the most probable one.
        option_logprob: log-probability of each option as a whole; empty without options.
        option_tokens: number of tokens of each option.
    """

    questions: tuple[Question, ...]
    token_logprob: tuple[Floats, ...]
    token_right: tuple[Bools, ...]
    option_logprob: tuple[Floats, ...]
    option_tokens: tuple[Floats, ...]

    @cached_property
    def probability(self) -> Floats:
        """exp(-NLL / number of tokens) of the answer, as TOFU has it, (n,)."""
        return np.array([np.exp(tokens.mean()) for tokens in self.token_logprob])

    @cached_property
    def exact(self) -> Floats:
        """1 where every token of the answer is the most probable one, else 0, (n,)."""
        return np.array([float(right.all()) for right in self.token_right])

    @cached_property
    def chance(self) -> Floats:
        """Share of right answers of one who knows nothing; 0 without options, (n,)."""
        return np.array([question.chance or 0.0 for question in self.questions])

    @cached_property
    def right(self) -> Floats:
        """1 where the answer is the most probable option, (n,); without options, `exact`.

        Options that tie for the first place share the point: a model that prefers nothing is at
        chance, wherever the right answer stands in the list.
        """
        scores = self.exact.copy()
        for i, options in enumerate(self.option_logprob):
            if len(options):
                best = options >= options.max() - _TIE
                answer = self.questions[i].options.index(self.questions[i].answer)
                scores[i] = best[answer] / best.sum()
        return scores

    @cached_property
    def option_probability(self) -> Floats:
        """Probability of the answer among its options, (n,); without options, `probability`."""
        shares = self.probability.copy()
        for i, options in enumerate(self.option_logprob):
            if len(options):
                weights = np.exp(options - options.max())
                answer = self.questions[i].options.index(self.questions[i].answer)
                shares[i] = weights[answer] / weights.sum()
        return shares


def read_answers(
    candidate: Candidate, questions: Sequence[Question], *, batch_tokens: int
) -> Answers:
    """Ask a model all questions.

    Options that share all but their last token with another share its forward pass.

    Args:
        batch_tokens: tokens in one forward pass, padding included.

    Raises:
        ConfigError: a prompt with its answer does not fit into the context.
    """
    logprob: list[Floats] = []
    right: list[Bools] = []
    option_logprob: list[Floats] = []
    option_tokens: list[Floats] = []
    for first in range(0, len(questions), _CHUNK):
        chunk = questions[first : first + _CHUNK]
        pairs = [(q.prompt, text) for q in chunk for text in (q.answer, *q.options)]
        read = iter(_read(candidate, continuations(candidate, pairs), batch_tokens=batch_tokens))
        for question in chunk:
            tokens, hits = next(read)
            logprob.append(tokens)
            right.append(hits)
            options = [next(read)[0] for _ in question.options]
            option_logprob.append(np.array([tokens.sum() for tokens in options]))
            option_tokens.append(np.array([float(len(tokens)) for tokens in options]))
    return Answers(
        tuple(questions), tuple(logprob), tuple(right), tuple(option_logprob), tuple(option_tokens)
    )


def continuations(candidate: Candidate, pairs: Sequence[tuple[str, str]]) -> list[Continuation]:
    """Token ids of prompts with their answers.

    An answer begins at the first token that the prompt alone does not have, so a token that joins
    the end of one and the beginning of the other belongs to the answer.
    """
    whole = _rows(candidate, [prompt + answer for prompt, answer in pairs])
    prompts = list(dict.fromkeys(prompt for prompt, _ in pairs))
    alone = dict(zip(prompts, _rows(candidate, prompts), strict=True))
    found = []
    for (prompt, answer), ids in zip(pairs, whole, strict=True):
        if len(ids) >= candidate.ctx_len or len(ids) < 2:
            raise ConfigError(
                f"asked {candidate.name} the question {prompt[-40:]!r} with the answer "
                f"{answer[:40]!r}: {len(ids)} tokens, and it takes 2 to {candidate.ctx_len - 1}; "
                "shorten the prompt, or leave the question out"
            )
        start = 0
        while start < min(len(alone[prompt]), len(ids) - 1) and alone[prompt][start] == ids[start]:
            start += 1
        found.append(Continuation(ids, max(start, 1)))
    return found


def _rows(candidate: Candidate, texts: Sequence[str]) -> list[tuple[int, ...]]:
    if not texts:
        return []
    tokens = candidate.tokenize(texts)
    lengths = tokens.mask.sum(1).tolist()
    rows = tokens.ids.tolist()
    return [tuple(row[:length]) for row, length in zip(rows, lengths, strict=True)]


def _read(
    candidate: Candidate, rows: Sequence[Continuation], *, batch_tokens: int
) -> list[tuple[Floats, Bools]]:
    """Log-probability of each answer token, and whether it was the most probable one."""
    contexts = list(dict.fromkeys(row.ids[:-1] for row in rows))
    place = {context: i for i, context in enumerate(contexts)}
    users: list[list[int]] = [[] for _ in contexts]
    for i, row in enumerate(rows):
        users[place[row.ids[:-1]]].append(i)
    found: list[tuple[Floats, Bools]] = [(np.empty(0), np.empty(0, dtype=bool))] * len(rows)
    for batch in document_batches(candidate, contexts, ctx_len=None, batch_tokens=batch_tokens):
        with torch.no_grad():
            logits = candidate.logits(batch.tokens).float()
        mine = [(b, i) for b, context in enumerate(batch.places) for i in users[context]]
        at = [(b, pos) for b, i in mine for pos in range(rows[i].start - 1, len(rows[i].ids) - 1)]
        target = [token for _, i in mine for token in rows[i].ids[rows[i].start :]]
        b, pos = torch.tensor(at, device=logits.device).T
        wanted = logits[b, pos, torch.tensor(target, device=logits.device)]  # (n_answer_tokens,)
        total = logits.logsumexp(-1)[b, pos]
        logprob = torch.nan_to_num(wanted - total, nan=FLOOR, neginf=FLOOR).double().cpu().numpy()
        hits = (logits.argmax(-1)[b, pos].cpu() == torch.tensor(target)).numpy()
        lengths = np.cumsum([len(rows[i].ids) - rows[i].start for _, i in mine])[:-1]
        for (_, i), lp, hit in zip(
            mine, np.split(logprob, lengths), np.split(hits, lengths), strict=True
        ):
            found[i] = (lp, hit)
    return found
