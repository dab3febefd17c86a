"""Candidates that are no language models of saetools."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from saetools.evaluate.unlearning import Trainee, trainable_copy
from saetools.models import LanguageModel, TokenBatch


class Behind:
    """Anything that stands before a model and shares its tokenizer."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        self.model, self.name = model, name

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @property
    def ctx_len(self) -> int:
        return self.model.ctx_len

    def tokenize(self, texts: Sequence[Any], *, ctx_len: int | None = None) -> TokenBatch:
        return self.model.tokenize(texts, ctx_len=ctx_len)


class Constant(Behind):
    """Finds every next token as likely as any other."""

    def logits(self, tokens: TokenBatch) -> Tensor:
        return torch.zeros(*tokens.ids.shape, len(self.tokenizer))


class Table(Behind):
    """A bigram model: logits of the next token are a row of a table, (vocab, vocab)."""

    def __init__(self, model: LanguageModel, table: Tensor) -> None:
        super().__init__(model, "table")
        self.table = table

    def logits(self, tokens: TokenBatch) -> Tensor:
        return self.table[tokens.ids]


class OutputFilter(Behind):
    """Knows all that the model knows, and is silent from where a name is mentioned on."""

    def __init__(self, model: LanguageModel, names: Sequence[str]) -> None:
        super().__init__(model, "output filter")
        encode = model.tokenizer
        self.names = [encode(name, add_special_tokens=False)["input_ids"] for name in names]
        self.n_layers = model.n_layers
        self.inner: Trainee | LanguageModel = model

    def logits(self, tokens: TokenBatch) -> Tensor:
        logits = self.inner.logits(tokens)
        return logits * ~self._mentioned(tokens.ids)[..., None]

    def activations(self, tokens: TokenBatch, hook_names: Sequence[str]) -> Mapping[str, Tensor]:
        return self.model.activations(tokens, hook_names)

    def weights(self) -> Mapping[str, Tensor]:
        return dict(self.model.hf.named_parameters())

    def trainable_copy(self) -> Trainee:
        copy = OutputFilter(self.model, ())
        copy.names, copy.inner = self.names, trainable_copy(self.model)
        return copy

    def trained(self) -> Sequence[Tensor]:
        return self.inner.trained()

    def _mentioned(self, ids: Tensor) -> Tensor:
        """True at and after the last token of each name, (batch, pos)."""
        found = torch.zeros_like(ids, dtype=torch.bool)
        for name in self.names:
            if ids.shape[1] >= len(name):
                windows = ids.unfold(1, len(name), 1)  # (batch, pos - len + 1, len)
                found[:, len(name) - 1 :] |= (windows == torch.tensor(name)).all(-1)
        return found.cumsum(1) > 0
