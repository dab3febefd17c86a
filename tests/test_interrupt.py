"""A signal ends work at a good place; a second one at once, unless it is the first one's echo."""

import os
import signal

import pytest

from saetools.interrupt import deferred_interrupt


def test_a_second_signal_interrupts_at_once() -> None:
    with deferred_interrupt() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_a_launcher_passes_on_is_the_same_request() -> None:
    with deferred_interrupt(echo_seconds=60) as asked:
        assert not asked()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert asked()
