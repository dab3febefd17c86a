"""Many processes: which part of the corpus is whose, and where all wait for all.

`torchrun` tells each process its rank through the environment; nothing else reads it. A part is a
run of neighbouring groups, so a row is computed in the same batch, and comes out the same to the
last bit, however many processes share the work. This module writes no store.
"""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist

from saetools.errors import ConfigError, SaetoolsError
from saetools.harvest.batching import Group

__all__ = [
    "Meeting",
    "World",
    "joined",
    "shard_path",
    "shards_of",
    "share",
    "use_own_gpu",
    "world",
]

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
            f"a harvest by many processes needs 0 <= RANK < WORLD_SIZE in the environment; found "
            f"{asked}; start it with torchrun, or unset both to harvest with one process"
        )
    return here


def use_own_gpu() -> None:
    """Make the GPU of this process's local rank the current one; without a GPU do nothing."""
    local = os.environ.get("LOCAL_RANK")
    if local is not None and torch.cuda.is_available():
        torch.cuda.set_device(int(local) % torch.cuda.device_count())


class Meeting:
    """Where the processes of one harvest wait for each other."""

    def __init__(self, here: World, group: dist.ProcessGroup | None) -> None:
        self._here = here
        self._group = group

    def wait(self) -> None:
        """Return when all processes have come here."""
        dist.barrier(group=self._group)

    def first_does(self, work: Callable[[], T]) -> T:
        """Let the first process do something; all get its result, or raise its error."""
        told: list[T | SaetoolsError | None] = [None]
        if self._here.rank == 0:
            try:
                told = [work()]
            except SaetoolsError as error:
                told = [error]
        dist.broadcast_object_list(told, src=0, group=self._group)
        if isinstance(told[0], SaetoolsError):
            raise told[0]
        return cast("T", told[0])


@contextmanager
def joined(here: World) -> Iterator[Meeting]:
    """Meet the other processes.

    Raises:
        ConfigError: the environment does not say where to meet.
    """
    ours = not dist.is_initialized()
    if ours:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise ConfigError(
                f"WORLD_SIZE asks for {here.size} processes, and {' and '.join(missing)} is not in "
                "the environment, so they cannot meet; start them with torchrun, or unset RANK and "
                "WORLD_SIZE to harvest with one process"
            )
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Meeting(here, dist.new_group(backend="gloo", timeout=_PATIENCE))
    finally:
        if ours:
            dist.destroy_process_group()


def share(groups: Sequence[Group], here: World) -> list[Group]:
    """The groups of one process: neighbours, in order, and as many as anyone's, give or take one.

    With more processes than groups some have none.
    """
    n = len(groups)
    return list(groups[n * here.rank // here.size : n * (here.rank + 1) // here.size])


def shard_path(out: Path, here: World) -> Path:
    """`acts.rank00001-of-00004.h5` beside `acts.h5`."""
    return out.with_name(f"{out.stem}.rank{here.rank:05}-of-{here.size:05}{out.suffix}")


def shards_of(out: Path) -> list[Path]:
    """The shards that lie beside `out`."""
    return sorted(out.parent.glob(f"{glob.escape(out.stem)}.rank*-of-*{out.suffix}"))
