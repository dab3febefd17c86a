"""Cap projection: hold the component along a direction between two bounds."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.operations._base import OPERATIONS, DirectionOperation, Rows

__all__ = ["CapProjection"]


@OPERATIONS.register("cap_projection")
@dataclass(frozen=True)
class CapProjection(DirectionOperation):
    """x' = x + (clip(v̂ᵀx, floor, cap) - v̂ᵀx) v̂; activations inside the bounds keep their bits.

    Args:
        cap: largest component, in units of activation; None: no upper bound.
        floor: smallest component; None: no lower bound.
    """

    type: ClassVar[str] = "cap_projection"
    cap: float | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        low, high = self.floor, self.cap
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise ConfigError(
                f"cap_projection got cap={high} and floor={low}; give at least one, and a floor "
                "that is not above the cap"
            )

    def apply(
        self,
        x: Float[Tensor, "n d_in"],
        direction: Float[Tensor, " d_in"],
        rows: Rows,  # noqa: ARG002
    ) -> Float[Tensor, "n d_in"]:
        """The activations after it."""
        unit: Tensor = direction / direction.norm()
        found = x @ unit
        return x + (found.clamp(min=self.floor, max=self.cap) - found).unsqueeze(-1) * unit

    def settled(self) -> dict[str, Any]:
        """Nothing: what lies inside the bounds stays."""
        return {}
