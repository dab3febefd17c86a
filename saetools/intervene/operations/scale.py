"""Scale: the activation of each latent is multiplied by a factor; silent latents stay silent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from saetools.intervene.operations._base import OPERATIONS, LatentOperation, Rows, column, numbers

__all__ = ["Scale"]


@OPERATIONS.register("scale")
@dataclass(frozen=True)
class Scale(LatentOperation):
    """new = factor · old. Negative factors are ItD's deactivation (arXiv:2503.09446).

    Args:
        latents: a factor for each latent; 1 changes nothing, 0 is `Zero`.
    """

    type: ClassVar[str] = "scale"
    latents: Mapping[int, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "latents", numbers(self.latents, what="scale"))

    @property
    def chosen(self) -> tuple[int, ...]:
        """The latents."""
        return tuple(self.latents)

    def new(self, old: Float[Tensor, "n m"], rows: Rows) -> Float[Tensor, "n m"]:  # noqa: ARG002
        """Activations after it."""
        return old * column(self.latents, old)

    def settled(self) -> dict[int, float]:
        """Nothing: it depends on what is there."""
        return {}
