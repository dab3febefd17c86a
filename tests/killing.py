"""Work in forked children that are killed with SIGKILL, again and again until it is done.

Children are forked from one process because importing torch would take longer than the work. Half
of the kills come at any moment, half soon after an event that the work tells of, such as a commit.
"""

import os
import random
import signal
import time
from collections.abc import Callable

__all__ = ["Tell", "kill_again_and_again", "told_first"]

Tell = Callable[[], None]


def told_first(function: Callable[..., object], tell: Tell) -> Callable[..., object]:
    """`function`, telling whenever it begins."""

    def telling(*args: object, **kwargs: object) -> object:
        tell()
        return function(*args, **kwargs)

    return telling


def kill_again_and_again(
    work: Callable[[int, Tell], None],
    left: Callable[[int], int],
    *,
    n_kills: int,
    rng: random.Random,
    seconds: float,
    most_events: int,
    after: float,
) -> tuple[list[int], int]:
    """Kill `work(run, tell)` for run 0 until it is done, then for run 1, and so on.

    Args:
        left: what a kill left behind of a run, as a number.
        seconds: how long the work takes.
        most_events: kill after at most so many events.
        after: kill within so many seconds of the event.

    Returns:
        What each kill left behind, and the number of the run that is not done yet.
    """
    found: list[int] = []
    run = 0
    while len(found) < n_kills:
        if _killed(work, run, rng, seconds=seconds, most_events=most_events, after=after):
            found.append(left(run))
        else:
            run += 1
    return found, run


def _killed(
    work: Callable[[int, Tell], None],
    run: int,
    rng: random.Random,
    *,
    seconds: float,
    most_events: int,
    after: float,
) -> bool:
    """Work in a child and kill it; False if it was done before."""
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        work(run, lambda: _tell(telling))
        os._exit(0)
    os.close(telling)
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, seconds))
    else:
        for _ in range(rng.randrange(1, most_events + 1)):
            os.read(told, 1)
        time.sleep(rng.uniform(0, after))
    os.kill(child, signal.SIGKILL)
    os.close(told)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _tell(pipe: int) -> None:
    os.write(pipe, b".")
