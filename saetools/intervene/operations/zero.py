"""Zero: the chosen latents fall silent."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.intervene.operations._base import OPERATIONS, LatentOperation, Rows, once

__all__ = ["Zero"]


@OPERATIONS.register("zero")
@dataclass(frozen=True)
class Zero(LatentOperation):
    """new = 0; tokens on which none of the latents fires keep their bits."""

    type: ClassVar[str] = "zero"
    latents: Iterable[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "latents", once(self.latents, what="zero"))

    @property
    def chosen(self) -> tuple[int, ...]:
        """The latents."""
        return tuple(self.latents)

    def new(self, old: Float[Tensor, "n m"], rows: Rows) -> Float[Tensor, "n m"]:  # noqa: ARG002
        """Activations after it."""
        return torch.zeros_like(old)

    def settled(self) -> dict[int, Any]:
        """The value of each latent: 0, everywhere."""
        return dict.fromkeys(self.chosen, (0.0, "always"))
