"""What the evaluation of unlearning asks of a model, and what it asks of some models only.

Every language model of `saetools.models` is a candidate. So is any object with a tokenizer and
next-token logits, e.g. a model behind an output filter; what it cannot give beyond that
(activations for probes, a copy to train, weights to compare) is reported as missing.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from saetools.models.base import LanguageModel, TokenBatch

__all__ = [
    "Candidate",
    "Comparable",
    "Copyable",
    "Intervened",
    "Missing",
    "Readable",
    "Trainee",
    "intervened",
    "read_activations",
    "read_weights",
]


class Missing(Exception):  # noqa: N818 (no error: a score says why it cannot be had)
    """A score cannot be measured on these models and data; the message says why."""


@runtime_checkable
class Candidate(Protocol):
    """A model that can be asked questions: it tokenizes, and gives next-token logits."""

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def tokenizer(self) -> Any:
        """Its Hugging Face tokenizer."""

    @property
    def ctx_len(self) -> int:
        """Longest sequence in tokens."""

    def tokenize(
        self, texts: Sequence[str | Sequence[int]], *, ctx_len: int | None = None
    ) -> TokenBatch:
        """Tokenize texts, or complete token ids, right-padded."""

    def logits(self, tokens: TokenBatch) -> Float[Tensor, "batch pos vocab"]:
        """Next-token logits, shape (batch, pos, vocab)."""


@runtime_checkable
class Readable(Protocol):
    """A candidate whose residual stream can be read."""

    @property
    def n_layers(self) -> int:
        """Number of blocks."""

    def activations(self, tokens: TokenBatch, hook_names: Sequence[str]) -> Mapping[str, Tensor]:
        """Activations (batch, pos, d_in) at the hooks `resid_post.<layer>`."""


@runtime_checkable
class Copyable(Protocol):
    """A candidate that can be fine-tuned without being changed itself."""

    def trainable_copy(self) -> "Trainee":
        """A copy with weights of its own."""


@runtime_checkable
class Comparable(Protocol):
    """A candidate whose weights can be laid beside the original's."""

    def weights(self) -> Mapping[str, Tensor]:
        """Its weights by name."""


class Trainee(Candidate, Protocol):
    """A candidate that is being fine-tuned: its logits carry gradients."""

    def trained(self) -> Sequence[Tensor]:
        """The tensors to train."""


class Intervened:
    """A language model under an intervention that is open during its own calls only.

    So the edited and the original model may share their weights in memory.
    """

    def __init__(
        self, model: LanguageModel, intervention: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self.model = model
        self.intervention = intervention

    @property
    def name(self) -> str:
        """The model's name, marked."""
        return f"{self.model.name} under intervention"

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.model.tokenizer

    @property
    def ctx_len(self) -> int:
        """Longest sequence in tokens."""
        return self.model.ctx_len

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return self.model.n_layers

    def tokenize(
        self, texts: Sequence[str | Sequence[int]], *, ctx_len: int | None = None
    ) -> TokenBatch:
        """Tokenize as the model does."""
        return self.model.tokenize(texts, ctx_len=ctx_len)

    def logits(self, tokens: TokenBatch) -> Float[Tensor, "batch pos vocab"]:
        """Next-token logits under the intervention."""
        with self.intervention():
            return self.model.logits(tokens)

    def activations(self, tokens: TokenBatch, hook_names: Sequence[str]) -> Mapping[str, Tensor]:
        """Activations under the intervention."""
        with self.intervention():
            return self.model.activations(tokens, hook_names)


def intervened(
    model: LanguageModel, intervention: Callable[[], AbstractContextManager[Any]]
) -> Intervened:
    """A candidate that is `model` under an intervention, opened anew for each call.

        edited = intervened(model, lambda: st.ablate(model, sae, [4171]))

    Args:
        intervention: opens the block, e.g. `ablate` or `steer`.
    """
    return Intervened(model, intervention)


def read_activations(
    candidate: Candidate, tokens: TokenBatch, hook_names: Sequence[str]
) -> Mapping[str, Tensor]:
    """Activations at the hooks.

    Raises:
        Missing: the candidate gives none.
    """
    if not isinstance(candidate, Readable):
        raise Missing(f"{candidate.name} gives no activations to probe")
    return candidate.activations(tokens, hook_names)


def read_weights(candidate: Candidate) -> Mapping[str, Tensor]:
    """Weights by name; a hook-based edit changes none of them.

    Raises:
        Missing: the candidate shows none.
    """
    if isinstance(candidate, Comparable):
        return candidate.weights()
    model = candidate.model if isinstance(candidate, Intervened) else candidate
    if isinstance(model, LanguageModel):
        return dict(model.hf.named_parameters())
    raise Missing(f"{candidate.name} shows no weights to compare")
