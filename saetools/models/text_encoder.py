"""Text encoders of Hugging Face (BERT and kin, CLIP text, T5 encoder) as subject models."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saetools.models.base import TextEncoder, TokenBatch
from saetools.models.bridge import Bridge
from saetools.models.hf_subject import HFSubject
from saetools.models.pooling import Pooling, default_pooling, pool
from saetools.models.tokens import encode_with_template, pad

__all__ = ["HFTextEncoder"]


class HFTextEncoder(HFSubject, TextEncoder):
    """A Hugging Face text encoder that can be read and edited at named hooks.

    Args:
        hf: an encoder without a task head, such as BertModel or CLIPTextModelWithProjection.
        tokenizer: its tokenizer.
        name: what to call the model.
        pooling: how tokens become one vector; None takes what is usual for the family.
        bridge: a bridge that already wraps `hf`.
    """

    def __init__(
        self,
        hf: nn.Module,
        tokenizer: Any,
        *,
        name: str,
        pooling: Pooling | None = None,
        bridge: Bridge | None = None,
    ) -> None:
        chosen = pooling or default_pooling(hf)
        super().__init__(hf, tokenizer, name=name, ctx_len=chosen.ctx_len, bridge=bridge)
        self.pooling = chosen.mode
        self.normalize = chosen.normalize

    def tokenize(
        self, texts: Sequence[str | Sequence[int]], *, ctx_len: int | None = None
    ) -> TokenBatch:
        """Tokenize texts with the tokenizer's special tokens, truncated, right-padded.

        Token ids may stand in the place of a text.
        """
        rows = encode_with_template(self.tokenizer, texts, self._limit(ctx_len))
        return pad(rows, self.tokenizer, self.device)

    def embed(
        self, texts: Sequence[str | Sequence[int]] | TokenBatch, *, batch_size: int = 32
    ) -> Float[Tensor, "n d_model"]:
        """Final embedding of each text: pooled over real tokens and normalised as the model says.

        No gradient is kept. A CLIP text model with a projection gives the projected embedding.
        """
        if isinstance(texts, TokenBatch):
            return self._embed(texts)
        # Texts of like length together: less padding, less work.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        parts = [
            self._embed(self.tokenize([texts[i] for i in order[start : start + batch_size]]))
            for start in range(0, len(order), batch_size)
        ]
        if not parts:
            return torch.zeros(0, self.d_model, device=self.device)
        return torch.cat(parts)[torch.tensor(order, device=self.device).argsort()]

    def _embed(self, tokens: TokenBatch) -> Float[Tensor, "n d_model"]:
        with self._inference():
            tokens = tokens.to(self.device)
            vectors = pool(self._run(tokens).last_hidden_state, tokens.mask, self.pooling)
            projection = getattr(self.hf, "text_projection", None)
            if projection is not None:
                vectors = projection(vectors)
            return nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors

    def _forward(self, root: nn.Module, tokens: TokenBatch) -> Any:
        return root(input_ids=tokens.ids, attention_mask=tokens.mask.long())
