"""Clamp: the activation of each latent becomes a value, everywhere or where it fires."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.operations._base import OPERATIONS, LatentOperation, Rows, column, numbers

__all__ = ["Clamp"]


@OPERATIONS.register("clamp")
@dataclass(frozen=True)
class Clamp(LatentOperation):
    """new = value. Negative values where a latent fires are the clamping of arXiv:2410.19278.

    Args:
        latents: a value for each latent, in units of activation; `in_units_of` turns multiples of
            a latent's own largest activation, or of a quantile of it, into these.
        when: "always": at every token; "active": where the latent's activation is above `above`.
        above: what counts as active.
    """

    type: ClassVar[str] = "clamp"
    latents: Mapping[int, float]
    when: Literal["always", "active"] = "always"
    above: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "latents", numbers(self.latents, what="clamp"))
        if self.when not in ("always", "active"):
            raise ConfigError(f"clamp: unknown when {self.when!r}; choose 'always' or 'active'")

    @property
    def chosen(self) -> tuple[int, ...]:
        """The latents."""
        return tuple(self.latents)

    def new(self, old: Float[Tensor, "n m"], rows: Rows) -> Float[Tensor, "n m"]:  # noqa: ARG002
        """Activations after it."""
        value = column(self.latents, old).expand_as(old)
        return value if self.when == "always" else torch.where(old > self.above, value, old)

    def settled(self) -> dict[int, Any]:
        """The value of each latent, and where."""
        where = ("active", self.above) if self.when == "active" else ("always",)
        return {latent: (value, *where) for latent, value in self.latents.items()}
