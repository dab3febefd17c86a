"""Asking a judge: a few examples a prompt, a list of numbers back, one more try if it is no list.

A judge is any function from messages to text. What it does not answer is reported as not answered;
it is never a zero.
"""

import json
import logging
import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from saetools.errors import ChatError
from saetools.naming.chat import BudgetSpentError, Chat, Message
from saetools.naming.scores.held_out import HeldOut

__all__ = ["Judge", "ask_about", "ask_numbers", "marked_text"]

logger = logging.getLogger(__name__)

_OPEN, _CLOSE = "\u2039\u2039", "\u203a\u203a"
_LIST = re.compile(r"\[[^\[\]]*\]")


class Judge:
    """A chat of which one question may stay without an answer.

    Args:
        chat: who is asked.
    """

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._answered = self._warned = False

    def __call__(self, messages: Sequence[Message]) -> str | None:
        """The answer; None if the chat fails at this one, or its budget is spent.

        Raises:
            ChatError: it fails at the very first question: nobody is there.
        """
        try:
            answer = self._chat(messages)
        except ChatError as error:
            if not self._answered and not isinstance(error, BudgetSpentError):
                raise
            if not self._warned:
                logger.warning("the judge does not answer everything: %s", error)
            self._warned = True
            return None
        self._answered = True
        return answer


def ask_about(
    chat: Judge, system: str, explanation: str, examples: Sequence[str], *, batch: int
) -> npt.NDArray[np.float64]:
    """A number from 0 to 1 for each example, nan where the judge gave no usable answer.

    Args:
        system: what the judge is to do; it is told to answer a list.
        explanation: the name to judge by.
        examples: what to judge.
        batch: examples a prompt.
    """
    answers: list[float] = []
    for start in range(0, len(examples), batch):
        part = examples[start : start + batch]
        listed = "\n\n".join(f"Example {i}: {text}" for i, text in enumerate(part, 1))
        user = f"Explanation: {explanation}\n\n{listed}"
        found = ask_numbers(chat, system, user, n=len(part), low=0, high=1)
        answers += found if found is not None else [math.nan] * len(part)
    return np.array(answers, dtype=np.float64)


def ask_numbers(
    chat: Judge, system: str, user: str, *, n: int, low: float, high: float
) -> list[float] | None:
    """A list of `n` numbers from `low` to `high`; None if two tries gave no such list."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    answer = chat(messages)
    found = None if answer is None else _parse(answer, n, low, high)
    if found is not None or answer is None:
        return found
    again = (
        f"That is not a list of {n} numbers from {low:g} to {high:g}. Answer only the list, with "
        f"exactly {n} numbers, such as [{', '.join(['0'] * min(n, 3))}{', ...' if n > 3 else ''}]."
    )
    messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": again}]
    answer = chat(messages)
    return None if answer is None else _parse(answer, n, low, high)


def marked_text(
    held_out: HeldOut, rows: npt.NDArray[np.int64], marked: npt.NDArray[np.bool_]
) -> str:
    """The text of a context with the marked tokens between << and >>, neighbours in one mark.

    The text's own << and >> are spelled ‹‹ and ››, so that no text can mark itself.
    """
    pieces: list[str] = []
    inside = rows >= 0
    rows, marked = rows[inside], marked[inside]
    if not len(rows):
        return ""
    edges = np.flatnonzero(np.diff(marked, prepend=not marked[0])).tolist()
    for start, stop in zip(edges, [*edges[1:], len(rows)], strict=True):
        text = "".join(held_out.texts[t] for t in held_out.token[rows[start:stop]])
        text = text.replace("<<", _OPEN).replace(">>", _CLOSE)
        bare = text.lstrip()
        space = text[: len(text) - len(bare)]
        pieces.append(f"{space}<<{bare}>>" if marked[start] and bare else text)
    return "".join(pieces).strip()


def _parse(answer: str, n: int, low: float, high: float) -> list[float] | None:
    """The last list of `n` numbers in an answer."""
    for text in reversed(_LIST.findall(answer)):
        try:
            found = json.loads(text)
        except ValueError:
            continue
        numbers = [float(v) for v in found if isinstance(v, int | float)]
        if len(found) == len(numbers) == n and all(low <= v <= high for v in numbers):
            return numbers
    return None
