"""The exchanges of a training step between the processes that take it together.

A step has two axes that can be split: the rows of the batch and the latents of the dictionary. The
maths asks a `Ranks` for each; `ALONE`, the default, has the whole axis and exchanges nothing.

Every exchange is asked for by all ranks of an axis, in the same order, and gives all of them the
same numbers. Nothing here has autograd.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from saetools.processes import lost

__all__ = ["ALONE", "ProcessRanks", "Ranks"]

_BLOCK_BYTES = 64 * 2**20


class Ranks:
    """The processes among which an axis is cut into runs of neighbours, in the order of ranks.

    This class is the case of one process. Ranks are counted from 0.
    """

    rank: int = 0
    size: int = 1

    def span(self, n: int) -> slice:
        """Which of `n` rows or latents are this rank's; ranks differ by one at most."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def sum(self, x: Tensor) -> Tensor:
        """Σ of `x` over ranks, of the same shape on all of them; `x` may be overwritten."""
        return x

    def gather(self, x: Tensor) -> Tensor:
        """The `x` of all ranks, one after the other; they may differ in length only."""
        return x

    def total(self, n: int) -> int:
        """Σ of `n` over ranks."""
        return n

    def collect(self, x: Tensor) -> Tensor | None:
        """What `gather` gives, but in host memory, and on the first rank only; None elsewhere."""
        return x.cpu()


ALONE = Ranks()
"""One process that has it all."""


class ProcessRanks(Ranks):
    """Ranks that are processes of torch.distributed.

    Args:
        group: whose processes; its backend fits the device.
        host_group: the same processes, over gloo, for tensors in host memory.
        device: where the tensors that are exchanged lie.
    """

    def __init__(
        self, group: dist.ProcessGroup, host_group: dist.ProcessGroup, device: torch.device
    ) -> None:
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._group, self._host_group, self._device = group, host_group, device

    def sum(self, x: Tensor) -> Tensor:
        """Σ of `x` over ranks, in place where `x` is contiguous."""
        x = x.contiguous()
        with lost():
            dist.all_reduce(x, group=self._group)
        return x

    def gather(self, x: Tensor) -> Tensor:
        """The `x` of all ranks, one after the other."""
        sizes = self._sizes(len(x))
        most = max(sizes)
        sent = x.contiguous()
        if len(x) < most:
            sent = x.new_zeros(most, *x.shape[1:])
            sent[: len(x)] = x
        out = x.new_empty(self.size * most, *x.shape[1:])
        if out.numel() == 0:
            return out
        with lost():
            dist.all_gather(list(out.chunk(self.size)), sent, group=self._group)
        if min(sizes) == most:
            return out
        return torch.cat([out[r * most : r * most + size] for r, size in enumerate(sizes)])

    def total(self, n: int) -> int:
        """Σ of `n` over ranks."""
        return sum(self._sizes(n))

    def collect(self, x: Tensor) -> Tensor | None:
        """All of `x` on the first rank, which receives a block of rows at a time."""
        sizes = self._sizes(len(x))
        x = x.detach().contiguous()
        if self.rank > 0:
            for block in _blocks(x):
                with lost():
                    dist.send(block.cpu(), group=self._host_group, group_dst=0)
            return None
        whole = torch.empty(sum(sizes), *x.shape[1:], dtype=x.dtype)
        whole[: len(x)] = x
        begin = sizes[0]
        for source, size in enumerate(sizes[1:], start=1):
            for block in _blocks(whole[begin : begin + size]):
                with lost():
                    dist.recv(block, group=self._host_group, group_src=source)
            begin += size
        return whole

    def _sizes(self, n: int) -> list[int]:
        sizes = torch.empty(self.size, dtype=torch.int64, device=self._device)
        own = torch.tensor([n], dtype=torch.int64, device=self._device)
        with lost():
            dist.all_gather(list(sizes.chunk(self.size)), own, group=self._group)
        found: list[int] = sizes.tolist()
        return found


def _blocks(x: Tensor) -> tuple[Tensor, ...]:
    if x.numel() == 0:
        return ()
    a_row = x[0].numel() * x.element_size()
    return torch.split(x, max(1, _BLOCK_BYTES // a_row))
