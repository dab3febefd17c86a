"""Shuffled batches over chunks: the order is a function of (seed, epoch) and of nothing else.

Chunks are permuted and dealt into groups of at most `GROUP_CHUNKS`. A group is read whole, its rows
are permuted, and batches are cut from the stream of groups. The next group is read in the
background. So memory is bounded by two groups, rows mix within a group, and any batch can be
reached by skipping groups without reading them.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.repro import generator

__all__ = ["GROUP_CHUNKS", "shuffled_batches"]

GROUP_CHUNKS = 32


def shuffled_batches(
    read: Callable[[int], Tensor],
    row_counts: npt.NDArray[np.int64],
    *,
    batch_tokens: int,
    seed: int,
    epoch: int,
    start: int,
) -> Iterator[Float[Tensor, "n d_in"]]:
    """Yield the batches of one epoch from batch `start` on.

    Args:
        read: returns the wanted rows (m, d_in) of a chunk.
        row_counts: how many rows `read` will give for each chunk.
    """
    n_rows = int(row_counts.sum())
    groups = _deal(row_counts, seed, epoch)
    sizes = [int(row_counts[group].sum()) for group in groups]
    skip = start * batch_tokens
    first = 0
    while first < len(groups) and skip >= sizes[first]:
        skip -= sizes[first]
        first += 1

    def load(index: int) -> Tensor:
        rows = torch.cat([read(int(chunk)) for chunk in groups[index]])
        return rows[torch.randperm(len(rows), generator=generator(seed, "rows", epoch, index))]

    rest: list[Tensor] = []
    held = 0
    for rows in _ahead(load, range(first, len(groups))):
        part, skip = rows[skip:], max(skip - len(rows), 0)
        rest.append(part)
        held += len(part)
        if held >= batch_tokens:
            pool = torch.cat(rest)
            full = held - held % batch_tokens
            for begin in range(0, full, batch_tokens):
                yield pool[begin : begin + batch_tokens].float()
            rest, held = [pool[full:]], held - full
    if n_rows < batch_tokens and start == 0 and held:
        yield torch.cat(rest).float()


def _deal(row_counts: npt.NDArray[np.int64], seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Chunks that hold wanted rows, permuted, in groups of nearly equal number."""
    filled = np.flatnonzero(row_counts)
    if len(filled) == 0:
        return []
    order = torch.randperm(len(filled), generator=generator(seed, "chunks", epoch)).numpy()
    n_groups = -(-len(filled) // GROUP_CHUNKS)
    return list(np.array_split(filled[order], n_groups))


def _ahead(load: Callable[[int], Tensor], indices: range) -> Iterator[Tensor]:
    """Load one ahead in a thread; the order of results is that of `indices`."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = None
        for index in indices:
            upcoming = pool.submit(load, index)
            if pending is not None:
                yield pending.result()
            pending = upcoming
        if pending is not None:
            yield pending.result()
