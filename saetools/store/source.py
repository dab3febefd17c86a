"""What training needs of a place that activations come from: a store, or a harvest as it runs."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from saetools.store.moments import Moments
from saetools.store.reader import Split

__all__ = ["ActivationSource"]


@runtime_checkable
class ActivationSource(Protocol):
    """Rows of activations at named hooks, in shuffled batches; `ActivationStore` has the details.

    `repr()` says where they come from, in messages. The manifest names model and corpus.
    """

    manifest: dict[str, Any]

    @property
    def hook_name(self) -> str:
        """The first hook."""

    @property
    def n_tokens(self) -> int:
        """Number of rows, held-out ones included."""

    def width(self, hook_name: str | None = None) -> int:
        """Width of the activations at a hook."""

    def moments(self, hook_name: str | None = None) -> Moments:
        """Count, mean and variance of the rows of a hook."""

    def n_batches(self, batch_tokens: int, *, split: Split = "train") -> int:
        """Number of batches that `batches` gives an epoch."""

    def batches(
        self,
        batch_tokens: int,
        *,
        seed: int,
        epoch: int = 0,
        start: int = 0,
        split: Split = "train",
        hook_name: str | None = None,
        pin_memory: bool = False,
    ) -> Iterator[Float[Tensor, "n d_in"]]:
        """Shuffled float32 batches; their order is a function of (seed, epoch) alone."""
