"""Add along a direction: what contrastive steering does (CAA, arXiv:2312.06681)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.operations._base import OPERATIONS, DirectionOperation, Rows

__all__ = ["AddDirection"]


@OPERATIONS.register("add_direction")
@dataclass(frozen=True)
class AddDirection(DirectionOperation):
    """x' = x + strength · unit · direction / ‖direction‖.

    Args:
        strength: how far; negative is away from the direction, 0 changes not a bit.
        unit: what a strength of 1 is: "absolute", one unit of activation; "residual_norm", the
            length of the token's own activation; "own_length", the direction's length.
    """

    type: ClassVar[str] = "add_direction"
    strength: float
    unit: Literal["absolute", "residual_norm", "own_length"] = "absolute"

    def __post_init__(self) -> None:
        if self.unit not in ("absolute", "residual_norm", "own_length"):
            raise ConfigError(
                f"add_direction: unknown unit {self.unit!r}; choose 'absolute', 'residual_norm' or "
                "'own_length'"
            )

    def apply(
        self, x: Float[Tensor, "n d_in"], direction: Float[Tensor, " d_in"], rows: Rows
    ) -> Float[Tensor, "n d_in"]:
        """The activations after it."""
        length: Tensor = direction.norm()
        if self.unit == "own_length":
            return x + self.strength * direction
        step = self.strength * direction / length
        return x + (step if self.unit == "absolute" else rows.length.unsqueeze(-1) * step)

    def settled(self) -> dict[str, Any]:
        """Nothing: it adds to what is there."""
        return {}
