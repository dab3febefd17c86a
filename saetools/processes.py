"""Many processes that do one piece of work: which one this is, and where all wait for all.

`torchrun` tells each process its rank through the environment; nothing else reads it. This module
knows neither stores nor SAEs.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist

from saetools.errors import ConfigError, ProcessError, SaetoolsError

__all__ = ["Meeting", "World", "joined", "lost", "use_own_gpu", "world"]

T = TypeVar("T")

# A process that is done waits for the slowest; one that fails ends the others through its launcher.
_PATIENCE = timedelta(days=30)


class World(NamedTuple):
    """Which process this is, out of how many."""

    rank: int
    size: int


def world() -> World:
    """This process among its fellows; alone unless a launcher such as torchrun says otherwise.

    Raises:
        ConfigError: RANK and WORLD_SIZE are not numbers that fit each other.
    """
    asked = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE")}
    if asked["WORLD_SIZE"] is None:
        return World(0, 1)
    try:
        here = World(int(asked["RANK"] or ""), int(asked["WORLD_SIZE"]))
    except ValueError:
        here = World(-1, 0)
    if not 0 <= here.rank < here.size:
        raise ConfigError(
            f"work by many processes needs 0 <= RANK < WORLD_SIZE in the environment; found "
            f"{asked}; start it with torchrun, or unset both to work with one process"
        )
    return here


def use_own_gpu() -> None:
    """Make the GPU of this process's local rank the current one; without a GPU do nothing."""
    local = os.environ.get("LOCAL_RANK")
    if local is not None and torch.cuda.is_available():
        torch.cuda.set_device(int(local) % torch.cuda.device_count())


class Meeting:
    """Where the processes of one piece of work wait for each other."""

    def __init__(self, here: World, group: dist.ProcessGroup | None) -> None:
        self.here = here
        self._group = group

    def wait(self) -> None:
        """Return when all processes have come here."""
        with lost():
            dist.barrier(group=self._group)

    def any(self, yes: bool) -> bool:
        """Whether at least one process says yes; all of them must ask."""
        flag = torch.tensor([int(yes)])
        with lost():
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group)
        return bool(flag)

    def first_does(self, work: Callable[[], T]) -> T:
        """Let the first process do something; all get its result, or raise its error."""
        told: list[T | SaetoolsError | None] = [None]
        if self.here.rank == 0:
            try:
                told = [work()]
            except SaetoolsError as error:
                told = [error]
        with lost():
            dist.broadcast_object_list(told, src=0, group=self._group)
        if isinstance(told[0], SaetoolsError):
            raise told[0]
        return cast("T", told[0])


@contextmanager
def lost() -> Iterator[None]:
    """Around an exchange with other processes: say in our words that one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessError(
            "another process of this run ended, or did not answer in time, so this one ends too; "
            "the reason is in the messages of that process; start all of them again to go on "
            f"({str(error).splitlines()[0][:200]})"
        ) from error


@contextmanager
def joined(here: World, *, patience: timedelta = _PATIENCE) -> Iterator[Meeting]:
    """Meet the other processes, over gloo.

    Connections are made by the first meeting of a process and stay until it ends, as the launcher's
    notes about them cannot be made twice.

    Args:
        here: this process among the others.
        patience: how long a process waits for the slowest one.

    Raises:
        ConfigError: the environment does not say where to meet.
    """
    if not dist.is_initialized():
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise ConfigError(
                f"WORLD_SIZE asks for {here.size} processes, and {' and '.join(missing)} is not in "
                "the environment, so they cannot meet; start them with torchrun, or unset RANK and "
                "WORLD_SIZE to work with one process"
            )
        dist.init_process_group("gloo", timeout=_PATIENCE)
    group = dist.new_group(backend="gloo", timeout=patience)
    try:
        yield Meeting(here, group)
    finally:
        dist.destroy_process_group(group)
