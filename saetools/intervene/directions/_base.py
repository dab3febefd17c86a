"""A direction of the activation, where it belongs and where it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError, ShapeError

__all__ = ["Direction", "check_rows"]


@dataclass(frozen=True)
class Direction:
    """A direction.

    Args:
        vector: (d_in,), float32, with the length that its source gives it. It points to what there
            is more of in the positive examples.
        source: how it was found, e.g. "difference_of_means".
        hook_name: where it belongs.
        info: figures of its making, such as the number of examples.
    """

    vector: Tensor | Sequence[float]
    source: str = "given"
    hook_name: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vector = torch.as_tensor(self.vector, dtype=torch.float32).detach().cpu()
        if vector.ndim != 1 or not bool(vector.isfinite().all()):
            raise ShapeError(
                f"a direction is one finite vector of shape (d_in,); got {tuple(vector.shape)}"
            )
        if not bool(vector.any()):
            raise ConfigError(
                f"the direction of '{self.source}' is zero: it points nowhere; the examples do not "
                "differ at this hook"
            )
        object.__setattr__(self, "vector", vector)

    def __len__(self) -> int:
        return len(self.tensor)

    @property
    def tensor(self) -> Float[Tensor, " d_in"]:
        """The vector, on the CPU."""
        return torch.as_tensor(self.vector)

    @property
    def unit(self) -> Float[Tensor, " d_in"]:
        """The vector with length 1."""
        unit: Tensor = self.tensor / self.tensor.norm()
        return unit

    def cosine(self, other: "Direction") -> float:
        """Cosine with another direction, -1 to 1."""
        return float(self.unit @ other.unit)

    def as_fields(self) -> dict[str, Any]:
        """The direction as plain data."""
        return {
            "vector": self.tensor.tolist(),
            "source": self.source,
            "hook_name": self.hook_name,
            "info": dict(self.info),
        }


def check_rows(*tables: Tensor, what: str) -> None:
    """Refuse tables of activations that are empty or of different widths."""
    shapes = [tuple(table.shape) for table in tables]
    widths = {shape[-1] for shape in shapes if len(shape) == 2}
    if any(len(shape) != 2 or shape[0] == 0 for shape in shapes) or len(widths) != 1:
        raise ShapeError(
            f"{what} takes tables of activations (n, d_in) of one width, with at least one row "
            f"each; got {', '.join(map(str, shapes))}"
        )
