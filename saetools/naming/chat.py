"""A language model that answers messages, as one function; and what may stand around it.

    chat = Remembered(Budgeted(Patient(server), budget), folder, key={...})
    chat([{"role": "user", "content": "Say yes."}])

`Remembered` asks nothing twice, `Budgeted` stops before too much is asked, `Patient` asks again
when a server is busy. Who answers is in `chat_server.py` and `chat_local.py`; any function from
messages to text will do.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saetools.errors import ChatError
from saetools.repro import fingerprint

__all__ = [
    "Budget",
    "BudgetSpentError",
    "Budgeted",
    "Chat",
    "Message",
    "Patient",
    "Remembered",
    "TryAgainError",
    "n_tokens_of",
]

Message = Mapping[str, str]
"""`role` (system, user or assistant) and `content`."""

Chat = Callable[[Sequence[Message]], str]
"""Answers a list of messages with a text."""

_CHARS_PER_TOKEN = 4


class TryAgainError(ChatError):
    """It does not answer now, and may later: busy, slow, not reached."""


class BudgetSpentError(ChatError):
    """One more request would be more than was allowed."""


def n_tokens_of(messages: Sequence[Message], answer: str = "") -> int:
    """Tokens of messages and answer, estimated at 4 characters each: servers count differently."""
    n_chars = sum(len(message["content"]) for message in messages) + len(answer)
    return -(-n_chars // _CHARS_PER_TOKEN)


class Budget:
    """How much may be asked, and how much was; threads may share it.

    Args:
        max_requests: requests; None for no limit.
        max_tokens: tokens of prompts and answers, as `n_tokens_of` estimates them; None for no
            limit.
    """

    def __init__(self, max_requests: int | None = None, max_tokens: int | None = None) -> None:
        self.n_requests = 0
        self.n_tokens = 0
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._lock = threading.Lock()

    def take(self, n_tokens: int) -> None:
        """Count one request of so many tokens, before it is sent.

        Raises:
            BudgetSpentError: that would be too much; nothing is counted.
        """
        with self._lock:
            requests, tokens = self.n_requests + 1, self.n_tokens + n_tokens
            for asked, limit, what in (
                (requests, self._max_requests, "requests"),
                (tokens, self._max_tokens, "tokens"),
            ):
                if limit is not None and asked > limit:
                    raise BudgetSpentError(
                        f"the next answer would need {asked:,} {what}, and {limit:,} are allowed; "
                        f"raise max_{what}: what was answered is kept"
                    )
            self.n_requests, self.n_tokens = requests, tokens


@dataclass(frozen=True)
class Budgeted:
    """A chat that counts each question on a budget; the answer as if it had `max_answer` tokens.

    Around a `Patient` chat, a question counts once however often a busy server was asked.
    """

    chat: Chat
    budget: Budget
    max_answer: int = 0

    def __call__(self, messages: Sequence[Message]) -> str:
        """Ask, unless the budget is spent."""
        self.budget.take(n_tokens_of(messages) + self.max_answer)
        return self.chat(messages)


@dataclass(frozen=True)
class Patient:
    """A chat that asks again when it is told to, waiting twice as long each time.

    Args:
        chat: raises TryAgainError when asking again may help.
        n_retries: how often it is asked again.
        wait: seconds before the first time.
        sleep: what waits.
    """

    chat: Chat
    n_retries: int = 4
    wait: float = 1.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __call__(self, messages: Sequence[Message]) -> str:
        """Ask, again if need be.

        Raises:
            ChatError: it did not answer in the end.
        """
        for turn in range(self.n_retries):
            try:
                return self.chat(messages)
            except TryAgainError:
                self.sleep(self.wait * 2**turn)
        return self.chat(messages)


@dataclass(frozen=True)
class Remembered:
    """A chat whose answers stand in a folder: what was answered once is never asked again.

    Args:
        chat: asked for what is not there.
        folder: one JSON file an answer, with messages and settings; never a key.
        key: whatever else shapes the answer: model, temperature, ...
    """

    chat: Chat
    folder: Path
    key: Mapping[str, Any]

    def __call__(self, messages: Sequence[Message]) -> str:
        """The answer that is there, else a new one."""
        path = self._path(messages)
        held = _read(path)
        if held is not None:
            return held
        answer = self.chat(messages)
        content = {"settings": dict(self.key), "messages": _plain(messages), "answer": answer}
        self.folder.mkdir(parents=True, exist_ok=True)
        # Two threads may have asked the same: each writes its own file, and the last one stays.
        scratch = path.with_suffix(f".{threading.get_ident()}.partial")
        scratch.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
        os.replace(scratch, path)
        return answer

    def knows(self, messages: Sequence[Message]) -> bool:
        """Whether the answer is there."""
        return _read(self._path(messages)) is not None

    def _path(self, messages: Sequence[Message]) -> Path:
        return self.folder / f"{fingerprint([dict(self.key), _plain(messages)])}.json"


def _read(path: Path) -> str | None:
    """The answer in a file; None if it is missing or damaged, and is asked for anew."""
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))["answer"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return answer if isinstance(answer, str) else None


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [dict(message) for message in messages]
