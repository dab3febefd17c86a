"""What a model makes of texts: for each token how probable it was, and against what odds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.documents import document_batches
from saetools.evaluate.unlearning.answers import FLOOR
from saetools.evaluate.unlearning.candidate import Candidate

__all__ = ["TextReading", "read_texts"]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TextReading:
    """What one model makes of texts, in their order; one entry a predicted token.

    Args:
        texts: as they were read; each is cut at the model's context.
        logprob: log-probability of each token, in nats.
        right: whether it was the most probable one.
        mean: Σ p log p over the vocabulary at that place, in nats.
        spread: standard deviation of log p under p, in nats.
    """

    texts: tuple[str, ...]
    logprob: tuple[Floats, ...]
    right: tuple[Bools, ...]
    mean: tuple[Floats, ...]
    spread: tuple[Floats, ...]

    @cached_property
    def loss_sum(self) -> Floats:
        """Sum of the cross-entropies of each text's tokens, in nats, (n,)."""
        return np.array([-tokens.sum() for tokens in self.logprob])

    @cached_property
    def n_tokens(self) -> Floats:
        """Number of predicted tokens of each text, (n,)."""
        return np.array([float(len(tokens)) for tokens in self.logprob])


def read_texts(candidate: Candidate, texts: Sequence[str], *, batch_tokens: int) -> TextReading:
    """Read all texts; `batch_tokens` tokens, padding included, in one forward pass."""
    n = len(texts)
    logprob, mean, spread = ([np.empty(0)] * n for _ in range(3))
    right: list[Bools] = [np.empty(0, dtype=bool)] * n
    for batch in document_batches(candidate, texts, ctx_len=None, batch_tokens=batch_tokens):
        with torch.no_grad():
            logits = candidate.logits(batch.tokens)[:, :-1].float()
        ids = batch.tokens.ids[:, 1:].to(logits.device)
        scores = torch.log_softmax(logits, dim=-1)  # (batch, pos - 1, vocab)
        p = scores.exp()
        mu = _dot(p, scores)
        sigma = (_dot(p, scores.square()) - mu.square()).clamp_min(0).sqrt()
        taken = scores.gather(-1, ids[..., None])[..., 0]
        hits = logits.argmax(-1) == ids
        lengths = (batch.tokens.mask.sum(1) - 1).clamp_min(0).tolist()
        for b, i in enumerate(batch.places):
            logprob[i] = _array(taken[b, : lengths[b]], FLOOR)
            mean[i] = _array(mu[b, : lengths[b]], FLOOR)
            spread[i] = _array(sigma[b, : lengths[b]], 0.0)
            right[i] = hits[b, : lengths[b]].cpu().numpy()
    return TextReading(tuple(texts), tuple(logprob), tuple(right), tuple(mean), tuple(spread))


def _dot(p: Tensor, scores: Tensor) -> Tensor:
    # 0 · log 0 is 0.
    return torch.where(p > 0, p * scores, 0.0).sum(-1)


def _array(values: Tensor, instead: float) -> Floats:
    numbers: Floats = torch.nan_to_num(values, nan=instead, neginf=instead).double().cpu().numpy()
    return numbers
