"""Set projection: every activation gets the same component along a direction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ShapeError
from saetools.intervene.operations._base import OPERATIONS, DirectionOperation, Rows

__all__ = ["SetProjection"]


@OPERATIONS.register("set_projection")
@dataclass(frozen=True)
class SetProjection(DirectionOperation):
    """x' = x + (value - v̂ᵀ(x - center)) v̂.

    With value 0 and the negative class's mean as the center this is the affine form of directional
    ablation. It is what lm-eval's steered models call "clamp", and no clamp of a latent: there is
    no encoder in it.

    Args:
        value: the component along the unit direction, in units of activation.
        center: what it is counted from, (d_in,); the origin by default.
    """

    type: ClassVar[str] = "set_projection"
    value: float
    center: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.center is not None:
            found = torch.as_tensor(self.center, dtype=torch.float32).detach().cpu()
            object.__setattr__(self, "center", tuple(found.tolist()))

    def apply(
        self,
        x: Float[Tensor, "n d_in"],
        direction: Float[Tensor, " d_in"],
        rows: Rows,  # noqa: ARG002
    ) -> Float[Tensor, "n d_in"]:
        """The activations after it."""
        unit: Tensor = direction / direction.norm()
        start = 0.0 if self.center is None else float(self._center(x) @ unit)
        return x + (self.value + start - x @ unit).unsqueeze(-1) * unit

    def settled(self) -> dict[str, Any]:
        """The projection."""
        return {"projection": (self.value, self.center)}

    def _center(self, x: Tensor) -> Tensor:
        center = torch.tensor(self.center, dtype=torch.float32, device=x.device)
        if center.shape != x.shape[1:]:
            raise ShapeError(
                f"set_projection has a center of width {len(center)}, but the activation has width "
                f"{x.shape[1]}; take the center at the hook that is edited"
            )
        return center
