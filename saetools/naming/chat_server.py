"""Answers from a server that speaks OpenAI's protocol: OpenAI, vLLM, llama.cpp, Ollama, ...

Needs the package `openai` (`pip install saetools[llm]`). The key is read from the environment when
a request is sent; it is in no file, no message and no cache.
"""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saetools.errors import ChatError
from saetools.naming.chat import Message, TryAgainError

__all__ = ["ServerChat"]

_NO_KEY = "none"  # a server of one's own asks for none, and the client insists on one


@dataclass(frozen=True)
class ServerChat:
    """A model behind an address.

        chat = ServerChat("http://localhost:8000/v1", "qwen3-8b")

    Args:
        base_url: the server's address, to which the client adds /chat/completions.
        model: the model's name there.
        api_key_env: environment variable with the key; a server without keys needs none.
        temperature: 0 gives the likeliest answer.
        max_answer: tokens of an answer at most.
        timeout: seconds.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    max_answer: int = 300
    timeout: float = 60.0

    def __call__(self, messages: Sequence[Message]) -> str:
        """Ask once.

        Raises:
            TryAgainError: the server is busy, slow or not reached.
            ChatError: it refuses the request.
        """
        openai = _openai()
        key = os.environ.get(self.api_key_env) or _NO_KEY
        client = openai.OpenAI(
            base_url=self.base_url, api_key=key, timeout=self.timeout, max_retries=0
        )
        try:
            with client:
                answer = client.chat.completions.create(
                    model=self.model,
                    messages=[dict(message) for message in messages],
                    temperature=self.temperature,
                    max_tokens=self.max_answer,
                )
            text = answer.choices[0].message.content
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as no:
            raise TryAgainError(
                self._told(no, key, "is it running, and is that its address?")
            ) from None
        except openai.OpenAIError as no:
            hint = f"check base_url, the model and the key in ${self.api_key_env}"
            raise ChatError(self._told(no, key, hint)) from None
        except (AttributeError, IndexError, TypeError, ValueError) as no:
            raise ChatError(
                self._told(no, key, "it does not speak OpenAI's chat completions")
            ) from None
        if not isinstance(text, str):
            raise ChatError(f"{self.model} at {self.base_url} sent an answer without text")
        return text

    def _told(self, error: Exception, key: str, hint: str) -> str:
        told = f"{self.model} at {self.base_url}: {type(error).__name__}: {error}; {hint}"
        # Servers repeat what they were sent.
        return told if key == _NO_KEY else told.replace(key, "***")


def _openai() -> Any:
    if importlib.util.find_spec("openai") is None:
        raise ChatError(
            "base_url asks for a server, and the package openai that speaks to it is not "
            "installed: pip install saetools[llm]"
        )
    import openai  # 0.5 s, and an extra

    return openai
