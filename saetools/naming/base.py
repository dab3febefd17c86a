"""What a name is, what a namer is, and the registry of namers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from saetools.analysis import LatentIndex
from saetools.registry import Registry

__all__ = ["MANUAL", "NAMERS", "Name", "Namer", "NamerConfig", "Unit"]

MANUAL = "manual"
"""Namer of a name that a person wrote; it wins over all others."""

Unit = Literal["word", "previous", "bigram"]


@dataclass(frozen=True)
class Name:
    """What a latent is believed to mean.

    Args:
        latent: its number.
        name: the name.
        confidence: 0 to 1, from training documents; how it is found is the namer's affair.
        rationale: one sentence of evidence.
        namer: who gave the name; "manual" is a person.
        unit: what `words` are: the words it fires on, the words before, or pairs; None if the name
            makes no such claim.
        words: words that the name claims, in the spelling of the index.
        held_out_precision: share of the latent's held-out activation that falls on the words; nan
            if it is silent there or the name claims no words. Higher is better.
        swapped_precision: the same for the words of another latent's name: what chance gives.
    """

    latent: int
    name: str
    confidence: float
    rationale: str
    namer: str
    unit: Unit | None = None
    words: tuple[str, ...] = ()
    held_out_precision: float = float("nan")
    swapped_precision: float = float("nan")


class NamerConfig(BaseModel):
    """What all namers' settings have in common: they are frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Namer(Protocol):
    """A way to name latents. It may look at everything of an index but what is held out."""

    Config: type[Any]

    @staticmethod
    def name(index: LatentIndex, latents: Sequence[int], config: Any) -> list[Name]:
        """Name live latents; one that it has no name for is left out."""


NAMERS: Registry[type[Namer]] = Registry(
    "namer", package="saetools.naming.namers", group="saetools.namers"
)
