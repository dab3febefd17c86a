"""What every subject model offers, whether it is a language model or a text encoder.

A subject model is the model whose activations we read and edit. Everything above this floor speaks
to it through `SubjectModel` and its two children, with transformer_lens hook names throughout.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saetools.models.forward_pass import ForwardPass

__all__ = ["Edit", "LanguageModel", "ModelKind", "SubjectModel", "TextEncoder", "TokenBatch"]

ModelKind = Literal["language_model", "text_encoder"]

Edit = Callable[[Tensor, Tensor], Tensor]
"""Maps an activation (batch, pos, d_in) and the content mask (batch, pos) to a new activation."""


@dataclass(frozen=True)
class TokenBatch:
    """Token ids of several texts, right-padded to one length.

    Args:
        ids: token ids, shape (batch, pos), int64.
        mask: True at real tokens, False at padding, shape (batch, pos).
        special: True at BOS, EOS, CLS, SEP and padding, shape (batch, pos).
    """

    ids: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    special: Bool[Tensor, "batch pos"]

    @property
    def content(self) -> Bool[Tensor, "batch pos"]:
        """True at the tokens that came from the text itself."""
        return self.mask & ~self.special

    def to(self, device: torch.device | str) -> "TokenBatch":
        """Return the same batch on another device."""
        return TokenBatch(self.ids.to(device), self.mask.to(device), self.special.to(device))


class SubjectModel(ABC):
    """A pretrained model that can be read and edited at named hooks.

    Attributes:
        name: how the user named it (a directory's last part, or a hub name).
        hf: the plain Hugging Face module; never changed by reading or editing.
        tokenizer: its Hugging Face tokenizer.
        d_model: width of the residual stream.
        n_layers: number of blocks.
        ctx_len: longest sequence it takes, in tokens, specials included.
    """

    kind: ClassVar[ModelKind]
    name: str
    hf: torch.nn.Module
    tokenizer: Any
    d_model: int
    n_layers: int
    ctx_len: int

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the weights."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the weights, 16 hex digits; equal for equal weights, wherever they came from."""

    @property
    @abstractmethod
    def tokenizer_fingerprint(self) -> str:
        """Hash of the tokenizer's vocabulary and special tokens, 16 hex digits."""

    @abstractmethod
    def hook_names(self) -> tuple[str, ...]:
        """All hook names that this model has, in transformer_lens spelling."""

    @abstractmethod
    def resolve(self, hook_name: str) -> str:
        """Return the canonical spelling of a hook name.

        `resid_post.3` and `blocks.3.hook_out` both give `blocks.3.hook_resid_post`.

        Raises:
            HookNotFoundError: the model lacks it; the message has the three nearest names.
        """

    def aliases(self, hook_name: str) -> list[str]:
        """Return all spellings of a hook that `resolve` understands, the canonical one first.

        Raises:
            HookNotFoundError: the model lacks it.
        """
        return [self.resolve(hook_name)]

    @abstractmethod
    def width(self, hook_name: str) -> int:
        """Width `d_in` of the activation at a hook."""

    @abstractmethod
    def tokenize(
        self, texts: Sequence[str | Sequence[int]], *, ctx_len: int | None = None
    ) -> TokenBatch:
        """Tokenize texts as the model expects them, truncated to `ctx_len` tokens, right-padded.

        Token ids may stand in the place of a text; they get the model's special tokens if they
        lack them. The batch is on the model's device.
        """

    @abstractmethod
    def activations(
        self, tokens: TokenBatch, hook_names: Sequence[str]
    ) -> dict[str, Float[Tensor, "batch pos d_in"]]:
        """Activations at the hooks, keyed by the names as asked; stops after the last layer needed.

        No gradient is kept. Rows at padding are undefined.
        """

    @abstractmethod
    def editing(self, edits: Mapping[str, Edit]) -> AbstractContextManager[None]:
        """Within the block every forward pass replaces the activations at the hooks by the edits'.

        Holds for all forward passes of the model, generation with and without KV cache included.
        An edit receives the activation (batch, pos, d_in) and the content mask (batch, pos), which
        is False at padding and special tokens. Blocks nest: the inner edit sees the outer's result.
        Nothing remains after the block, even when it raises.
        """

    def running_pass(self, x: Float[Tensor, "batch pos d_in"]) -> ForwardPass | None:  # noqa: ARG002
        """What is known of the pass that runs: for an edit that asks about its activation `x`.

        None from a model that does not watch its passes; then every token counts as prompt.

        Raises:
            ConfigError: no edit is open.
        """
        return None


class LanguageModel(SubjectModel):
    """A causal language model."""

    kind = "language_model"

    @abstractmethod
    def logits(self, tokens: TokenBatch) -> Float[Tensor, "batch pos vocab"]:
        """Next-token logits; no gradient is kept."""

    @abstractmethod
    def token_losses(
        self, tokens: TokenBatch
    ) -> tuple[Float[Tensor, "batch pos1"], Bool[Tensor, "batch pos1"]]:
        """Cross-entropy of each next token in nats (batch, pos - 1), and which of them are real."""

    @abstractmethod
    def loss(
        self, texts: Sequence[str], *, ctx_len: int | None = None, batch_size: int = 16
    ) -> float:
        """Mean cross-entropy in nats a token over the texts, padding left out. Lower is better."""

    @abstractmethod
    def generate(
        self,
        prompt: str,
        n_tokens: int,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        use_cache: bool = True,
    ) -> str:
        """Continue a prompt by up to `n_tokens` tokens; greedy at temperature 0.

        Returns the prompt and its continuation as text, special tokens left out.
        """


class TextEncoder(SubjectModel):
    """A text encoder that maps a text to one vector."""

    kind = "text_encoder"
    pooling: Literal["mean", "cls", "eot"]

    @abstractmethod
    def embed(
        self, texts: Sequence[str | Sequence[int]] | TokenBatch, *, batch_size: int = 32
    ) -> Float[Tensor, "n d_model"]:
        """Final embedding of each text: pooled over real tokens, normalised if the model says."""
