"""Add: the activation of each latent is raised by an amount, which may be negative."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.operations._base import OPERATIONS, LatentOperation, Rows, column, numbers

__all__ = ["Add"]


@OPERATIONS.register("add")
@dataclass(frozen=True)
class Add(LatentOperation):
    """new = old + amount, so x' = x + Σ amount · W_dec[latent]. The SAE is not run.

    Args:
        latents: an amount for each latent.
        unit: "absolute": units of activation; "residual_norm": fractions of the length of the
            token's own activation.
    """

    type: ClassVar[str] = "add"
    encodes: ClassVar[bool] = False
    latents: Mapping[int, float]
    unit: Literal["absolute", "residual_norm"] = "absolute"

    def __post_init__(self) -> None:
        object.__setattr__(self, "latents", numbers(self.latents, what="add"))
        if self.unit not in ("absolute", "residual_norm"):
            raise ConfigError(
                f"add: unknown unit {self.unit!r}; choose 'absolute' or 'residual_norm'"
            )

    @property
    def chosen(self) -> tuple[int, ...]:
        """The latents."""
        return tuple(self.latents)

    def new(self, old: Float[Tensor, "n m"], rows: Rows) -> Float[Tensor, "n m"]:
        """Activations after it."""
        amounts = column(self.latents, old)
        if self.unit == "residual_norm":
            return old + rows.length.unsqueeze(-1) * amounts
        return old + amounts

    def settled(self) -> dict[int, float]:
        """Nothing: it adds to what is there."""
        return {}
