"""Name a latent by asking a language model what its contexts have in common.

Who is asked: a server that speaks OpenAI's protocol (`base_url` and `llm`), a Hugging Face model on
this machine (`llm` alone, a directory), or any function from messages to text (`chat=`, Python
only). Answers are kept in the cache folder, so that a run that was stopped, or is made again, asks
nothing twice. Only training contexts are shown; see `explain_prompt` for the question.

A language model says nothing of its own doubt that can be believed, so every name has confidence
0.5. What it is worth, scores on held-out contexts tell.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from saetools import progress
from saetools.analysis import Context, LatentIndex
from saetools.errors import ChatError, ConfigError
from saetools.naming.base import NAMERS, Name, NamerConfig, NamingContext
from saetools.naming.chat import (
    Budget,
    Budgeted,
    BudgetSpentError,
    Chat,
    Message,
    Patient,
    Remembered,
    n_tokens_of,
)
from saetools.naming.chat_local import LocalChat
from saetools.naming.chat_server import ServerChat
from saetools.naming.explain_prompt import explanation_in, messages_for
from saetools.naming.silence import silent_contexts

__all__ = ["LanguageModelNamer", "LanguageModelNamerConfig"]

_ME = "llm"
_CONFIDENCE = 0.5
_N_SHOWN = 3
_LOG = logging.getLogger(__name__)


class LanguageModelNamerConfig(NamerConfig):
    """Who is asked, what is shown, and how much may be asked."""

    llm: str = Field(
        default="",
        description="the language model: its name at the server, or the directory of a local one",
    )
    base_url: str | None = Field(
        default=None,
        description="address of a server, e.g. http://localhost:8000/v1; null: a local model",
    )
    api_key_env: str = Field(
        default="OPENAI_API_KEY", description="environment variable that holds the server's key"
    )
    n_examples: int = Field(
        default=20, ge=1, description="training contexts shown, half of them the strongest"
    )
    activations: bool = Field(default=False, description="tell the strength of each marked token")
    contrast: Literal["none", "silent", "neighbours"] = Field(
        default="none",
        description="also show texts in which the latent is silent: any, or those in which the "
        "latents nearest to it fire",
    )
    max_answer: int = Field(default=300, ge=16, description="tokens of an answer at most")
    max_requests: int | None = Field(default=None, ge=0, description="requests; null: no limit")
    max_tokens: int | None = Field(
        default=None,
        ge=0,
        description="tokens of prompts and answers, at 4 characters each; null: no limit",
    )
    n_workers: int = Field(default=4, ge=1, le=64, description="requests at a time, of a server")
    seed: int = Field(default=0, description="of the choice of silent texts")
    chat: Any = Field(
        default=None, exclude=True, description="function from messages to text; Python only"
    )


@NAMERS.register(_ME)
class LanguageModelNamer:
    """Names from a language model."""

    Config = LanguageModelNamerConfig

    @staticmethod
    def name(
        context: NamingContext, latents: Sequence[int], config: LanguageModelNamerConfig
    ) -> list[Name]:
        """Name latents that have training contexts, until the budget is spent.

        Raises:
            ConfigError: nobody to ask was given.
            ChatError: it answers nothing at all.
        """
        asked = _questions(context.index, latents, config)
        budget = Budget(config.max_requests, config.max_tokens)
        chat, told = _chat(config, budget, _folder(context))
        local = config.chat is not None or config.base_url is None
        answers = _ask_all(chat, asked, n_workers=1 if local else config.n_workers)
        found = {latent: explanation_in(answer) for latent, answer in answers.items()}
        if unread := sum(text is None for text in found.values()):
            _LOG.warning("%d answers have no line [EXPLANATION]: ...; no name for them", unread)
        return [
            Name(
                latent,
                text,
                confidence=_CONFIDENCE,
                rationale=f"said by {told} of {_n_shown(context.index, latent, config)} training "
                "contexts",
                namer=_ME,
            )
            for latent, text in found.items()
            if text is not None
        ]

    @staticmethod
    def preview(
        context: NamingContext, latents: Sequence[int], config: LanguageModelNamerConfig
    ) -> str:
        """The first prompts, and how much all of them are."""
        asked = _questions(context.index, latents, config)
        key, folder = _key(config), _folder(context)
        new = [
            messages
            for messages in asked.values()
            if folder is None or not Remembered(_nobody, folder, key).knows(messages)
        ]
        n_tokens = sum(n_tokens_of(messages) for messages in new)
        parts = [
            f"{len(asked):,} latents to name; {len(asked) - len(new):,} answers are there, "
            f"{len(new):,} to be asked for: about {n_tokens:,} tokens of prompts and at most "
            f"{len(new) * config.max_answer:,} of answers (4 characters a token)"
        ]
        for latent, messages in list(asked.items())[:_N_SHOWN]:
            parts.append(f"\n--- latent {latent}")
            parts += [f"[{message['role']}]\n{message['content']}" for message in messages]
        if len(asked) > _N_SHOWN:
            parts.append(f"\n... and {len(asked) - _N_SHOWN:,} more; choose latents to see others")
        return "\n".join(parts)


def _questions(
    index: LatentIndex, latents: Sequence[int], config: LanguageModelNamerConfig
) -> dict[int, list[Message]]:
    found: dict[int, list[Message]] = {}
    for latent in latents:
        examples = _examples(index, latent, config.n_examples)
        if not examples:
            continue
        silent: list[Context] = []
        if config.contrast != "none":
            silent = silent_contexts(
                index,
                latent,
                n=max(config.n_examples // 2, 1),
                near=config.contrast == "neighbours",
                seed=config.seed,
            )
        found[latent] = messages_for(examples, activations=config.activations, silent=silent)
    return found


def _examples(index: LatentIndex, latent: int, n: int) -> list[Context]:
    """Strongest training contexts and some drawn over the weaker ones, at most n."""
    top, spread = (index.examples(latent, kind=kind) for kind in ("top", "spread"))
    n_top = max(n - len(spread), -(-n // 2))
    chosen = top[:n_top]
    return [*chosen, *spread[: n - len(chosen)]]


def _n_shown(index: LatentIndex, latent: int, config: LanguageModelNamerConfig) -> int:
    return len(_examples(index, latent, config.n_examples))


def _chat(
    config: LanguageModelNamerConfig, budget: Budget, folder: Path | None
) -> tuple[Chat, str]:
    """Who is asked, with all that stands around it, and what it is called."""
    chat: Chat
    if config.chat is not None:
        chat, told = config.chat, str(getattr(config.chat, "__name__", "a function"))
    elif not config.llm:
        raise ConfigError(
            "the namer 'llm' has nobody to ask; give base_url of a server and llm, the name of its "
            "model; llm alone, a directory with a language model; or chat= in Python"
        )
    elif config.base_url is not None:
        server = ServerChat(
            config.base_url,
            config.llm,
            api_key_env=config.api_key_env,
            max_answer=config.max_answer,
        )
        chat, told = Patient(server), config.llm
    else:
        chat = LocalChat.load(config.llm, max_answer=config.max_answer)
        told = Path(config.llm).name
    chat = Budgeted(chat, budget, max_answer=config.max_answer)
    # A function has no name that tells it from others: its answers are not kept.
    if folder is None or config.chat is not None:
        return chat, told
    return Remembered(chat, folder, _key(config)), told


def _key(config: LanguageModelNamerConfig) -> dict[str, Any]:
    return {
        "base_url": config.base_url,
        "model": config.llm,
        "temperature": 0,
        "max_answer": config.max_answer,
    }


def _folder(context: NamingContext) -> Path | None:
    return None if context.cache is None else context.cache / "answers"


def _nobody(messages: Sequence[Message]) -> str:
    raise ChatError(f"nobody is asked in a preview ({len(messages)} messages)")


def _ask_all(chat: Chat, asked: dict[int, list[Message]], *, n_workers: int) -> dict[int, str]:
    """The answers, by latent; those that came before the budget was spent, or the chat broke.

    Raises:
        ChatError: there is no answer at all, and not because of the budget.
    """
    stopped: ChatError | None = None
    with (
        progress.task("llm", total=len(asked), unit="latents") as task,
        ThreadPoolExecutor(n_workers) as pool,
    ):
        waiting: dict[int, Future[str]] = {
            latent: pool.submit(chat, messages) for latent, messages in asked.items()
        }
        try:
            for answer in waiting.values():
                answer.result()
                task.advance()
        except ChatError as error:
            stopped = error
        finally:  # on Ctrl-C too: what is not on its way yet is not sent
            for answer in waiting.values():
                answer.cancel()
    # What came after the one that failed was answered, and maybe paid for, as well.
    done = {j: a for j, a in waiting.items() if not a.cancelled() and a.exception() is None}
    if stopped is not None:
        if not done and not isinstance(stopped, BudgetSpentError):
            raise stopped
        _LOG.warning("%d of %d latents were named: %s", len(done), len(asked), stopped)
    return {latent: answer.result() for latent, answer in done.items()}
