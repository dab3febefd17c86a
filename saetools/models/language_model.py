"""Causal language models of Hugging Face as subject models."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import GenerationConfig

from saetools.errors import ConfigError
from saetools.models.base import LanguageModel, TokenBatch
from saetools.models.hf_subject import HFSubject
from saetools.models.tokens import encode_with_bos, pad

__all__ = ["HFLanguageModel"]


class HFLanguageModel(HFSubject, LanguageModel):
    """A Hugging Face causal language model that can be read and edited at named hooks.

    Every text starts with the BOS token once, if the tokenizer has one; it gets no EOS.

        model = HFLanguageModel(hf, tokenizer, name="mine")
        model.activations(model.tokenize(["A cat"]), ["resid_post.2"])
    """

    def tokenize(
        self, texts: Sequence[str | Sequence[int]], *, ctx_len: int | None = None
    ) -> TokenBatch:
        """Tokenize texts with BOS first, truncated to `ctx_len` tokens, right-padded.

        Token ids may stand in the place of a text.
        """
        rows = encode_with_bos(self.tokenizer, texts, self._limit(ctx_len))
        return pad(rows, self.tokenizer, self.device)

    def logits(self, tokens: TokenBatch) -> Float[Tensor, "batch pos vocab"]:
        """Next-token logits; no gradient is kept."""
        with self._inference():
            logits: Tensor = self._run(tokens).logits
        return logits

    def token_losses(
        self, tokens: TokenBatch
    ) -> tuple[Float[Tensor, "batch pos1"], Bool[Tensor, "batch pos1"]]:
        """Cross-entropy of each next token in nats (batch, pos - 1), and which of them are real.

        Entries that are not real are 0.
        """
        tokens = tokens.to(self.device)
        # Half-precision logits would round the loss to two digits.
        logits = self.logits(tokens)[:, :-1].float()
        losses = nn.functional.cross_entropy(
            logits.transpose(1, 2), tokens.ids[:, 1:], reduction="none"
        )
        real = tokens.mask[:, 1:]
        return losses.masked_fill(~real, 0.0), real

    def loss(
        self, texts: Sequence[str], *, ctx_len: int | None = None, batch_size: int = 16
    ) -> float:
        """Mean cross-entropy in nats a token over the texts, padding left out. Lower is better.

        Raises:
            ConfigError: the texts have no token to predict.
        """
        total, count = 0.0, 0
        for start in range(0, len(texts), batch_size):
            tokens = self.tokenize(texts[start : start + batch_size], ctx_len=ctx_len)
            losses, real = self.token_losses(tokens)
            total += float(losses.double().sum())
            count += int(real.sum())
        if count == 0:
            raise ConfigError(
                f"asked for the loss over {len(texts)} texts, which have no token to predict; give "
                "at least one text of two tokens, BOS included"
            )
        return total / count

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

        It ends sooner at an end-of-text token or when the context is full. Sampling depends on
        `seed` alone and leaves torch's global generators as they were. Where the model is a
        bridge, or an edit is open at a site that only transformer_lens reaches, no cache is used:
        bridged attention loses cached tokens (transformer_lens 4.3 with transformers 5.24).
        """
        tokens = self.tokenize([prompt])
        room = self.ctx_len - tokens.ids.shape[1]
        if tokens.ids.shape[1] == 0 or room < 1 or n_tokens < 1 or temperature < 0:
            raise ConfigError(
                f"cannot generate {n_tokens} tokens at temperature {temperature} from a prompt of "
                f"{tokens.ids.shape[1]} tokens: '{self.name}' takes 1 to {self.ctx_len - 1} prompt "
                "tokens, n_tokens is at least 1 and temperature at least 0"
            )
        on_gpu = [self.device] if self.device.type == "cuda" else []
        with self._inference(), torch.random.fork_rng(devices=on_gpu):
            torch.manual_seed(seed)
            root: Any = self._edits.root
            out = root.generate(
                input_ids=tokens.ids,
                attention_mask=tokens.mask.long(),
                generation_config=self._generation_config(
                    min(n_tokens, room),
                    temperature=temperature,
                    use_cache=use_cache and not self._runs_bridged,
                ),
            )
        text: str = self.tokenizer.decode(out[0], skip_special_tokens=True)
        return text

    def _generation_config(
        self, n_tokens: int, *, temperature: float, use_cache: bool
    ) -> GenerationConfig:
        # Made from scratch: the model's own may ask for sampling, top-k, penalties or beams.
        config: Any = self.hf.config
        sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
        return GenerationConfig(
            max_new_tokens=n_tokens,
            do_sample=temperature > 0,
            use_cache=use_cache,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=self._padding_id(),
            **sampling,
        )

    def _padding_id(self) -> int:
        ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(int(i) for i in ids if i is not None)

    def _forward(self, root: nn.Module, tokens: TokenBatch) -> Any:
        # A cache would be filled and thrown away.
        return root(input_ids=tokens.ids, attention_mask=tokens.mask.long(), use_cache=False)
