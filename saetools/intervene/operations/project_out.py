"""Project out: take away what an activation has along a direction (directional ablation)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.operations._base import OPERATIONS, DirectionOperation, Rows

__all__ = ["ProjectOut"]


@OPERATIONS.register("project_out")
@dataclass(frozen=True)
class ProjectOut(DirectionOperation):
    """x' = x - fraction · (v̂ᵀx) v̂.

    Args:
        fraction: how much of the projection goes, 0-1.
    """

    type: ClassVar[str] = "project_out"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ConfigError(
                f"project_out takes a fraction from 0 to 1; got {self.fraction}; to go beyond the "
                "origin use set_projection with a negative value"
            )

    def apply(
        self,
        x: Float[Tensor, "n d_in"],
        direction: Float[Tensor, " d_in"],
        rows: Rows,  # noqa: ARG002
    ) -> Float[Tensor, "n d_in"]:
        """The activations after it."""
        unit: Tensor = direction / direction.norm()
        return x - self.fraction * (x @ unit).unsqueeze(-1) * unit

    def settled(self) -> dict[str, Any]:
        """The projection: 0, if all of it goes."""
        return {"projection": 0.0} if self.fraction == 1 else {}
