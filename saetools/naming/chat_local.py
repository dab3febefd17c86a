"""Answers from a Hugging Face model on this machine, greedily; no server, no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from saetools.errors import ChatError
from saetools.models import load_model
from saetools.models.base import LanguageModel
from saetools.naming.chat import Message

__all__ = ["LocalChat"]


@dataclass(frozen=True)
class LocalChat:
    """A causal language model that answers.

        chat = LocalChat.load("models/my-instruct")

    Args:
        model: the language model; its tokenizer's chat template is used if it has one, else the
            messages stand one after the other as `role: content`.
        max_answer: tokens of an answer at most.
    """

    model: LanguageModel
    max_answer: int = 300

    @classmethod
    def load(cls, folder: str, *, device: str | None = None, max_answer: int = 300) -> "LocalChat":
        """Load a model from a directory (or whatever `load_model` takes).

        Raises:
            ChatError: it is no language model.
        """
        model = load_model(folder, device=device)
        if not isinstance(model, LanguageModel):
            raise ChatError(f"{folder} is a {model.kind}; only a language model can answer")
        return cls(model, max_answer)

    def __call__(self, messages: Sequence[Message]) -> str:
        """The likeliest answer, token by token.

        Raises:
            ChatError: the messages and an answer do not fit into the model's context.
        """
        ids = self._ids(messages)
        room = self.model.ctx_len - len(ids)
        if room < self.max_answer:
            raise ChatError(
                f"messages of {len(ids):,} tokens and an answer of {self.max_answer} do not fit "
                f"into the {self.model.ctx_len:,} of '{self.model.name}'; show fewer examples "
                "(n_examples) or take another model"
            )
        tokens = torch.tensor([ids], device=self.model.device)
        hf: Any = self.model.hf
        own = hf.generation_config
        # From scratch but for the tokens that end an answer: a model's own may ask for sampling.
        settings = GenerationConfig(
            max_new_tokens=self.max_answer,
            do_sample=False,
            eos_token_id=own.eos_token_id or self.model.tokenizer.eos_token_id,
            pad_token_id=self._padding(),
        )
        with torch.no_grad():
            out = hf.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                generation_config=settings,
            )
        text: str = self.model.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
        return text

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        tokenizer = self.model.tokenizer
        if getattr(tokenizer, "chat_template", None):
            text = tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=True
            )
            found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
            return found
        lines = [f"{message['role']}: {message['content']}" for message in messages]
        text = "\n\n".join([*lines, "assistant:"])
        bos = tokenizer.bos_token_id
        plain: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return plain if bos is None else [bos, *plain]

    def _padding(self) -> int:
        ids = (self.model.tokenizer.pad_token_id, self.model.tokenizer.eos_token_id, 0)
        return next(int(i) for i in ids if i is not None)
