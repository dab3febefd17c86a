"""Ctrl-C and SIGTERM end a training run between two steps, never inside one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["deferred_interrupt"]


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within the block SIGINT and SIGTERM only set a flag; the yielded function reads it.

    A second Ctrl-C interrupts at once. Outside the main thread signals are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
