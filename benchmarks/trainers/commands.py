"""Who is compared: the lines of the tables of train_step.py, each with its settings."""

from collections.abc import Sequence
from typing import NamedTuple

from trainers.sizes import ARCHS

__all__ = ["OURS", "PEERS", "Command", "commands_of"]


class Command(NamedTuple):
    """A line of the table: its title, the module that drives it, and what it can train."""

    title: str
    module: str
    variant: str = ""
    archs: Sequence[str] = ARCHS
    is_peer: bool = True

    @property
    def library(self) -> str:
        """The title without the settings."""
        return self.title.partition(",")[0]


OURS = (
    Command("saetools", "of_saetools", "float32", is_peer=False),
    Command("saetools, compute_dtype=bfloat16", "of_saetools", "bfloat16", is_peer=False),
    Command("dense PyTorch autograd", "of_dense", is_peer=False),
)
PEERS = (
    Command("SAELens", "of_saelens"),
    Command("SAELens, sparse activations", "of_saelens", "sparse", ("topk",)),
    Command("dictionary_learning", "of_dictionary_learning"),
    Command("sparsify, signum", "of_sparsify", "signum", ("topk",)),
    Command("sparsify, Adam", "of_sparsify", "adam", ("topk",)),
)
# On a GPU everyone may compute in bfloat16 over float32 weights, as each offers it itself. The step
# of the kernels' own benchmark has Matryoshka over TopK; it needs torch and Triton alone.
_NESTED = ("topk", "matryoshka")
OURS_ON_GPU = (
    Command("saetools_kernels, bfloat16", "of_kernels", archs=_NESTED, is_peer=False),
    Command("saetools, compute_dtype=bfloat16", "of_saetools", "bfloat16", is_peer=False),
    Command("saetools, float32", "of_saetools", "float32", is_peer=False),
    Command("dense PyTorch autograd, bfloat16 autocast", "of_dense", "autocast", is_peer=False),
)
PEERS_ON_GPU = (
    Command("sparsify, Adam, its bfloat16 autocast", "of_sparsify", "adam", ("topk",)),
    Command("sparsify, signum, its bfloat16 autocast", "of_sparsify", "signum", ("topk",)),
    Command("SAELens, autocast=True (bfloat16)", "of_saelens", "autocast"),
    Command("SAELens, sparse activations, float32", "of_saelens", "sparse", ("topk",)),
    Command("SAELens, float32", "of_saelens"),
    Command("dictionary_learning, autocast_dtype=bfloat16", "of_dictionary_learning", "autocast"),
)


def commands_of(device: str, *, with_peers: bool) -> tuple[Command, ...]:
    """The lines for a device, the most wanted first."""
    ours, peers = (OURS, PEERS) if device == "cpu" else (OURS_ON_GPU, PEERS_ON_GPU)
    return ours + (peers if with_peers else ())
