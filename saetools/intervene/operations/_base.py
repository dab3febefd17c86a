"""What every operation is: a frozen set of numbers and a pure function of rows.

An operation on latents maps their activations to new ones; only the difference, through the
decoder, reaches the model. An operation along a direction maps the activation itself. Neither knows
a model, a hook or positions: `Request` joins them to those.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.errors import ConfigError
from saetools.registry import Registry

__all__ = [
    "OPERATIONS",
    "DirectionOperation",
    "LatentOperation",
    "Operation",
    "Rows",
    "column",
    "in_units_of",
    "numbers",
    "once",
]


@dataclass(frozen=True)
class Rows:
    """What an operation may know of the rows it gets, besides their activations.

    Args:
        length: length of each row's activation, (n,).
        place: place of its token in its text, (n,).
        token: its token id, (n,); zeros where the ids are not known.
    """

    length: Float[Tensor, " n"]
    place: Int[Tensor, " n"]
    token: Int[Tensor, " n"]


@dataclass(frozen=True)
class Operation(ABC):
    """Base of all operations. `type` is the file's name, and its name in a recipe."""

    type: ClassVar[str]

    def as_fields(self) -> dict[str, Any]:
        """The operation as plain data, its type included."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"type": self.type, **values}

    @abstractmethod
    def settled(self) -> Mapping[Any, Any]:
        """What it fixes, whatever stood there: by latent, or by "projection". Empty if nothing."""


class LatentOperation(Operation):
    """An operation on chosen latents of one SAE.

    Attributes:
        encodes: whether it needs the latents' activations.
    """

    encodes: ClassVar[bool] = True

    @property
    @abstractmethod
    def chosen(self) -> tuple[int, ...]:
        """The latents, each once."""

    @abstractmethod
    def new(self, old: Float[Tensor, "n m"], rows: Rows) -> Float[Tensor, "n m"]:
        """Activations of the chosen latents after it; `old` is 0 if it does not encode."""


class DirectionOperation(Operation):
    """An operation along one direction of the activation."""

    @abstractmethod
    def apply(
        self, x: Float[Tensor, "n d_in"], direction: Float[Tensor, " d_in"], rows: Rows
    ) -> Float[Tensor, "n d_in"]:
        """The activations after it. `direction` has the length that its source gave it."""


OPERATIONS: Registry[type[Operation]] = Registry(
    "operation", package="saetools.intervene.operations", group="saetools.operations"
)
"""All operations by name."""


def in_units_of(
    amounts: Mapping[int, float], references: Sequence[float] | npt.NDArray[Any] | Tensor
) -> dict[int, float]:
    """Amounts in the latents' own units: each is multiplied by its latent's reference.

        Clamp(in_units_of({4: -2.0}, index.max_act))

    Args:
        amounts: a multiple for each latent.
        references: one number for every latent of the dictionary: its largest activation, or a
            quantile of its activations.

    Raises:
        ConfigError: a latent has no reference, or one of 0 (it never fired).
    """
    table = torch.as_tensor(references, dtype=torch.float32).cpu().numpy()
    found = {}
    for latent, amount in amounts.items():
        if not 0 <= latent < len(table):
            raise ConfigError(
                f"latent {latent} has no reference: {len(table)} numbers were given, for the "
                f"latents 0 to {len(table) - 1}; give one for every latent of the dictionary"
            )
        if not np.isfinite(table[latent]) or table[latent] == 0:
            raise ConfigError(
                f"latent {latent} has the reference {table[latent]:g}: it never fired, so it has "
                "no scale of its own; choose a living latent, or give absolute amounts"
            )
        found[latent] = float(amount * table[latent])
    return found


def numbers(amounts: Mapping[Any, Any], *, what: str) -> dict[int, float]:
    """Latents with a finite number each; keys may be the strings of a JSON file."""
    try:
        found = {int(latent): float(amount) for latent, amount in amounts.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{what} takes a number for each latent, e.g. {{4171: 8.0}}; got {amounts!r}"
        ) from error
    wrong = [latent for latent, amount in found.items() if not np.isfinite(amount)]
    if wrong:
        raise ConfigError(f"{what}: the number of latent {wrong[0]} is not finite; give a number")
    return found


def once(latents: Iterable[Any], *, what: str) -> tuple[int, ...]:
    """Latents in their order, each once."""
    try:
        return tuple(dict.fromkeys(int(latent) for latent in latents))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{what} takes a list of latents, e.g. [4171, 90]; got {latents!r}"
        ) from error


def column(amounts: Mapping[int, float], like: Tensor) -> Float[Tensor, " m"]:
    """The numbers as a tensor on the device of `like`."""
    return torch.tensor(list(amounts.values()), dtype=torch.float32, device=like.device)
