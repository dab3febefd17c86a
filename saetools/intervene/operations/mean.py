"""Mean: every token gets each latent's mean activation, so that it tells nothing any more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from saetools.intervene.operations._base import OPERATIONS, LatentOperation, Rows, column, numbers

__all__ = ["Mean"]


@OPERATIONS.register("mean")
@dataclass(frozen=True)
class Mean(LatentOperation):
    """new = mean.

    Args:
        latents: each latent's mean activation over all tokens, silent ones included, e.g.
            `index.mean_act * index.firing_rate`.
    """

    type: ClassVar[str] = "mean"
    latents: Mapping[int, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "latents", numbers(self.latents, what="mean"))

    @property
    def chosen(self) -> tuple[int, ...]:
        """The latents."""
        return tuple(self.latents)

    def new(self, old: Float[Tensor, "n m"], rows: Rows) -> Float[Tensor, "n m"]:  # noqa: ARG002
        """Activations after it."""
        return column(self.latents, old).expand_as(old)

    def settled(self) -> dict[int, Any]:
        """The value of each latent: its mean, everywhere."""
        return {latent: (value, "always") for latent, value in self.latents.items()}
