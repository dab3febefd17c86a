"""Ctrl-C and SIGTERM end long work at a place where it can go on, never inside a write."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupt", "deferred_interrupt"]


class Interrupt:
    """Whether the user asked to stop; calling it answers.

    Args:
        echo_seconds: signals that follow the first one within this time are the same request.
    """

    def __init__(self, echo_seconds: float = 0.0) -> None:
        self._asked = False
        self._asked_at = 0.0
        self._echo_seconds = echo_seconds
        self._at_once = False

    def __call__(self) -> bool:
        """True once a signal has come."""
        return self._asked

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block a signal raises KeyboardInterrupt at once, and so does an earlier one.

        For the parts of the work that may be thrown away half done.
        """
        self._at_once = True
        try:
            if self._asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal wants
        """Handle a signal. A second one interrupts at once, wherever the work is."""
        echo = self._asked and time.monotonic() - self._asked_at < self._echo_seconds
        if self._at_once or (self._asked and not echo):
            self._asked = True
            raise KeyboardInterrupt
        if not self._asked:
            self._asked, self._asked_at = True, time.monotonic()


@contextmanager
def deferred_interrupt(*, echo_seconds: float = 0.0) -> Iterator[Interrupt]:
    """Within the block SIGINT and SIGTERM only set a flag, which the yielded object reads.

    A second signal interrupts at once, unless it comes within `echo_seconds` of the first: a
    launcher may pass a signal on that reached its processes too. Outside the main thread signals
    are left alone.
    """
    interrupt = Interrupt(echo_seconds)
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, interrupt.note)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
