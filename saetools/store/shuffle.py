"""Shuffled batches over chunks: the order is a function of (seed, epoch) and of nothing else.

Chunks are permuted and dealt into groups of at most `GROUP_CHUNKS`. A group is read whole into a
pool, and batches are gathered from it in a permuted order; a batch may end in the next group. One
thread reads the next group and another gathers the next batch while the trainer works on this one.
So memory is bounded by two groups and two batches, rows mix within a group, and any batch can be
reached by skipping groups without reading them.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.repro import generator

__all__ = ["GROUP_CHUNKS", "mixed_batches", "shuffled_batches"]

GROUP_CHUNKS = 32
_GATHER_ROWS = 4096  # rows on their way to float32: few calls, little memory

Item = TypeVar("Item")


class _Pool(NamedTuple):
    """The rows of a group (m, d_in), and the order in which they are taken."""

    rows: Tensor
    order: Tensor


def shuffled_batches(
    read: Callable[[int], Tensor],
    row_counts: npt.NDArray[np.int64],
    *,
    batch_tokens: int,
    seed: int,
    epoch: int,
    start: int,
    pin_memory: bool = False,
) -> Iterator[Float[Tensor, "n d_in"]]:
    """Yield the batches of one epoch from batch `start` on, in float32.

    Args:
        read: returns the wanted rows (m, d_in) of a chunk.
        row_counts: how many rows `read` will give for each chunk.
        pin_memory: batches in page-locked memory.
    """
    return mixed_batches(
        lambda chunks, _: torch.cat([read(int(chunk)) for chunk in chunks]),
        row_counts,
        batch_tokens=batch_tokens,
        seed=seed,
        epoch=epoch,
        start=start,
        pin_memory=pin_memory,
    )


def mixed_batches(
    load: Callable[[npt.NDArray[np.int64], int], Tensor],
    row_counts: npt.NDArray[np.int64],
    *,
    batch_tokens: int,
    seed: int,
    epoch: int,
    start: int,
    pin_memory: bool = False,
) -> Iterator[Float[Tensor, "n d_in"]]:
    """The same as `shuffled_batches`, for a reader that fills pools of its own.

    Args:
        load: returns the wanted rows of some chunks, in one of two pools (0 or 1); the rows of the
            other pool are still being read from.
        pin_memory: batches in page-locked memory.
    """
    groups = _deal(row_counts, seed, epoch)
    sizes = [int(row_counts[group].sum()) for group in groups]
    skip = start * batch_tokens
    first = 0
    while first < len(groups) and skip >= sizes[first]:
        skip -= sizes[first]
        first += 1

    def pools() -> Iterator[_Pool]:
        for index in range(first, len(groups)):
            order = torch.randperm(sizes[index], generator=generator(seed, "rows", epoch, index))
            rows = load(groups[index], index % 2)
            yield _Pool(rows, order[skip:] if index == first else order)

    is_only_one = sum(sizes) < batch_tokens and start == 0
    batches = _gathered(
        _ahead(pools()), batch_tokens, keep_short=is_only_one, pin_memory=pin_memory
    )
    return _ahead(batches)


def _gathered(
    pools: Iterator[_Pool], batch_tokens: int, *, keep_short: bool, pin_memory: bool
) -> Iterator[Tensor]:
    """Cut the stream of permuted rows into batches; a short last one counts if `keep_short`."""
    batch: Tensor | None = None
    filled = 0
    for rows, order in pools:
        taken = 0
        while taken < len(order):
            if batch is None:
                batch = torch.empty(batch_tokens, rows.shape[1], pin_memory=pin_memory)
            n = min(batch_tokens - filled, len(order) - taken)
            _gather(rows, order[taken : taken + n], batch[filled : filled + n])
            taken, filled = taken + n, filled + n
            if filled == batch_tokens:
                yield batch
                batch, filled = None, 0
    if batch is not None and keep_short:
        yield batch[:filled]


def _gather(rows: Tensor, order: Tensor, out: Tensor) -> None:
    """Write rows[order] to `out` (n, d_in), which is float32."""
    if rows.dtype == out.dtype:
        torch.index_select(rows, 0, order, out=out)
        return
    part = rows.new_empty(min(_GATHER_ROWS, len(order)), rows.shape[1])
    for start in range(0, len(order), _GATHER_ROWS):
        chosen = order[start : start + _GATHER_ROWS]
        torch.index_select(rows, 0, chosen, out=part[: len(chosen)])
        out[start : start + len(chosen)].copy_(part[: len(chosen)])


def _deal(row_counts: npt.NDArray[np.int64], seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Chunks that hold wanted rows, permuted, in groups of nearly equal number."""
    filled = np.flatnonzero(row_counts)
    if len(filled) == 0:
        return []
    order = torch.randperm(len(filled), generator=generator(seed, "chunks", epoch)).numpy()
    n_groups = -(-len(filled) // GROUP_CHUNKS)
    return list(np.array_split(filled[order], n_groups))


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items in the same order, each made in a thread while the one before is used."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as worker:
        pending = worker.submit(next, items, end)
        while True:
            item = pending.result()
            if item is end:
                return
            pending = worker.submit(next, items, end)
            yield item  # type: ignore[misc]
