"""A copy of a language model that can be fine-tuned, interventions included.

The copy is of the weights only. The module runs with the copy's weights in the place of its own
(`torch.func.functional_call`), so edits that are open on the model act, and gradients flow through
them, while the model itself never changes.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.evaluate.unlearning.candidate import (
    Candidate,
    Copyable,
    Intervened,
    Missing,
    Trainee,
)
from saetools.models.base import LanguageModel, TokenBatch

__all__ = ["WeightCopy", "trainable_copy"]


class WeightCopy:
    """Weights of a language model, copied in float32, run through the model's own module.

    Args:
        model: whose module is run; it keeps its weights.
        intervention: opened around every forward pass.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        intervention: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._model = model
        self._intervention = intervention
        self._weights = {
            name: weight.detach().clone().float().requires_grad_()
            for name, weight in model.hf.named_parameters()
        }

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._model.tokenizer

    @property
    def ctx_len(self) -> int:
        """Longest sequence in tokens."""
        return self._model.ctx_len

    def tokenize(
        self, texts: Sequence[str | Sequence[int]], *, ctx_len: int | None = None
    ) -> TokenBatch:
        """Tokenize as the model does."""
        return self._model.tokenize(texts, ctx_len=ctx_len)

    def logits(self, tokens: TokenBatch) -> Float[Tensor, "batch pos vocab"]:
        """Next-token logits (batch, pos, vocab), with gradients to `trained`."""
        tokens = tokens.to(self._model.device)
        inputs = {
            "input_ids": tokens.ids,
            "attention_mask": tokens.mask.long(),
            "use_cache": False,
        }
        with self._intervention():
            try:
                out: Any = torch.func.functional_call(self._model.hf, self._weights, (), inputs)
            except ConfigError as error:
                raise Missing(f"{self.name} cannot be trained under this edit: {error}") from error
        logits: Tensor = out.logits
        return logits

    def trained(self) -> Sequence[Tensor]:
        """The copied weights."""
        return list(self._weights.values())


def trainable_copy(candidate: Candidate) -> Trainee:
    """A copy of a candidate to fine-tune.

    Raises:
        Missing: it cannot be copied.
    """
    if isinstance(candidate, Copyable):
        return candidate.trainable_copy()
    if isinstance(candidate, Intervened):
        return WeightCopy(candidate.model, intervention=candidate.intervention)
    if isinstance(candidate, LanguageModel):
        return WeightCopy(candidate)
    raise Missing(f"{candidate.name} gives no copy to fine-tune")
