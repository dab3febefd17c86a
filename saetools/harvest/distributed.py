"""Many processes: which part of the corpus is whose, and what the shards are called.

A part is a run of neighbouring groups, so a row is computed in the same batch, and comes out the
same to the last bit, however many processes share the work. This module writes no store.
"""

import glob
from collections.abc import Sequence
from pathlib import Path

from saetools.harvest.batching import Group
from saetools.processes import World

__all__ = ["shard_path", "shards_of", "share"]


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
