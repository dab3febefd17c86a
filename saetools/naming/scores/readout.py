"""What a model says, as numbers that a name can be held against.

A language model: the log-probability of the name's tokens, together, as the next token. A text
encoder: the cosine of the pooled embedding with the embedding of the name's text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saetools.analysis.token_text import readable, style_of
from saetools.errors import ConfigError
from saetools.models import LanguageModel, SubjectModel, TextEncoder, TokenBatch
from saetools.naming.base import Name
from saetools.naming.scores.running import ids_of

__all__ = ["EncoderReadout", "LanguageReadout", "Outputs", "Readout", "readout_of"]


class Outputs(Protocol):
    """What the model said to some texts."""

    def of(self, name: Name, where: Bool[Tensor, "batch pos"]) -> Float[Tensor, " batch"]:
        """How strongly it said what the name claims, in each text; nan where nothing is asked.

        Args:
            where: tokens at which a language model is asked; an encoder looks at whole texts.
        """

    def top(self, name: Name, where: Bool[Tensor, "batch pos"]) -> Float[Tensor, " batch"]:
        """Share of those tokens at which the name's tokens are the likeliest; nan for encoders."""


class Readout(Protocol):
    """Runs a model and keeps what names need."""

    def claims(self, name: Name) -> bool:
        """Whether a name says anything about the output."""

    def run(self, tokens: TokenBatch) -> Outputs:
        """What the model says to some texts now, whatever edits are open."""


def readout_of(model: SubjectModel) -> Readout:
    """The readout for a model's kind.

    Raises:
        ConfigError: it is neither a language model nor a text encoder.
    """
    if isinstance(model, LanguageModel):
        return LanguageReadout(model)
    if isinstance(model, TextEncoder):
        return EncoderReadout(model)
    raise ConfigError(
        f"names are scored by intervention on language models and text encoders; {model.name} is "
        f"a {type(model).__name__}; leave the scorer 'intervention' out"
    )


class LanguageReadout:
    """Next-token log-probabilities.

    A name's tokens are those that it `promotes`; else the first tokens of the words that its latent
    is said to fire on, or that come next. A name of words before, or of labels, says nothing about
    what comes next.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._ids = lru_cache(maxsize=None)(self._read_ids)

    def claims(self, name: Name) -> bool:
        """Whether a name claims tokens."""
        return bool(self._ids(name))

    def run(self, tokens: TokenBatch) -> "_LanguageOutputs":
        """Next-token log-probabilities at every token."""
        logits = self._model.logits(tokens).float()
        return _LanguageOutputs(torch.log_softmax(logits, dim=-1), self._ids)

    def _read_ids(self, name: Name) -> tuple[int, ...]:
        if name.promotes:
            return tuple(sorted({i for text in name.promotes for i in self._by_text.get(text, ())}))
        words: Sequence[str] = ()
        if name.unit in ("word", "next"):
            words = name.words
        if name.unit == "bigram":
            words = [pair.rsplit(" ", 1)[-1] for pair in name.words]
        firsts = {i for word in words for i in ids_of(self._model, word)[:1]}
        return tuple(sorted(firsts))

    @cached_property
    def _by_text(self) -> dict[str, list[int]]:
        """Ids of each readable token; tokens may read the same."""
        vocabulary = self._model.tokenizer.get_vocab()
        texts = readable(list(vocabulary), style_of(vocabulary))
        found: dict[str, list[int]] = {}
        for text, token in zip(texts, vocabulary.values(), strict=True):
            found.setdefault(text, []).append(token)
        return found


class _LanguageOutputs:
    def __init__(self, log_probs: Float[Tensor, "batch pos vocab"], ids_of_name: object) -> None:
        self._log_probs, self._ids = log_probs, ids_of_name

    def of(self, name: Name, where: Bool[Tensor, "batch pos"]) -> Float[Tensor, " batch"]:
        """Mean log-probability of the name's tokens together, in nats."""
        chosen = torch.tensor(self._ids(name), device=self._log_probs.device)  # type: ignore[operator]
        return _mean(self._log_probs[..., chosen].logsumexp(-1), where)

    def top(self, name: Name, where: Bool[Tensor, "batch pos"]) -> Float[Tensor, " batch"]:
        """Share of the tokens at which one of the name's is the likeliest."""
        chosen = torch.tensor(self._ids(name), device=self._log_probs.device)  # type: ignore[operator]
        return _mean(torch.isin(self._log_probs.argmax(-1), chosen).float(), where)


class EncoderReadout:
    """Cosine of the pooled embedding with the embedding of the name's text."""

    def __init__(self, model: TextEncoder) -> None:
        self._model = model
        self._vectors: dict[str, Tensor] = {}

    def claims(self, name: Name) -> bool:
        """Every name has a text."""
        return bool(name.name.strip())

    def prepare(self, names: Sequence[Name]) -> None:
        """Embed the names' texts, many at a time, with no edit open."""
        texts = sorted({_text(name) for name in names} - set(self._vectors))
        for text, vector in zip(texts, self._model.embed(texts), strict=True):
            self._vectors[text] = torch.nn.functional.normalize(vector.float(), dim=-1)

    def run(self, tokens: TokenBatch) -> "_EncoderOutputs":
        """Embeddings of some texts."""
        vectors = torch.nn.functional.normalize(self._model.embed(tokens).float(), dim=-1)
        return _EncoderOutputs(vectors, self._vectors)


@dataclass(frozen=True)
class _EncoderOutputs:
    vectors: Float[Tensor, "batch d_model"]
    names: dict[str, Tensor]

    def of(self, name: Name, where: Bool[Tensor, "batch pos"]) -> Float[Tensor, " batch"]:
        """Cosine with the name; nan of texts where nothing is asked."""
        cosine = self.vectors @ self.names[_text(name)]
        return torch.where(where.any(-1).to(cosine.device), cosine, math.nan)

    def top(  # an embedding has no tokens to ask about
        self,
        name: Name,  # noqa: ARG002
        where: Bool[Tensor, "batch pos"],  # noqa: ARG002
    ) -> Float[Tensor, " batch"]:
        """An embedding has no likeliest token."""
        return self.vectors.new_full((len(self.vectors),), math.nan)


def _text(name: Name) -> str:
    """The name as plain words: its quotes say that it is a word, not what it is."""
    return name.name.replace('"', "").strip() or name.name


def _mean(
    figure: Float[Tensor, "batch pos"], where: Bool[Tensor, "batch pos"]
) -> Float[Tensor, " batch"]:
    """Mean over the tokens asked for; nan of a row without any."""
    where = where.to(figure.device)
    n = where.sum(-1)
    total: Int[Tensor, " batch"] = figure.masked_fill(~where, 0.0).sum(-1)
    return torch.where(n > 0, total / n.clamp_min(1), math.nan)
