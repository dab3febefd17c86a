"""What a name is, what a namer is and may look at, and the registry of namers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from saetools.analysis import LatentIndex
from saetools.errors import ConfigError
from saetools.models import SubjectModel
from saetools.registry import Registry
from saetools.sae import SAE
from saetools.store import ActivationStore

__all__ = ["MANUAL", "NAMERS", "Name", "Namer", "NamerConfig", "NamingContext", "Part", "Unit"]

MANUAL = "manual"
"""Namer of a name that a person wrote; it wins over all others."""

Unit = Literal["word", "previous", "bigram", "next"]

Part = Literal["sae", "model", "store"]
"""What a namer may need beside the index."""


@dataclass(frozen=True)
class Name:
    """What a latent is believed to mean.

    Args:
        latent: its number.
        name: the name.
        confidence: 0 to 1, from training documents; how it is found is the namer's affair.
        rationale: one sentence of evidence.
        namer: who gave the name; "manual" is a person.
        unit: what `words` are: the words it fires on, the words before or after, or pairs; None if
            the name makes no such claim.
        words: words that the name claims, in the spelling of the index.
        label: a label of documents that the latent is claimed to tell, None for no such claim.
        promotes: readable tokens that the latent is claimed to make more likely when it is added.
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
    label: str | None = None
    promotes: tuple[str, ...] = ()
    held_out_precision: float = float("nan")
    swapped_precision: float = float("nan")


class NamerConfig(BaseModel):
    """What all namers' settings have in common: they are frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class NamingContext:
    """What a namer may look at: an index, and whatever else its caller has.

    Args:
        index: what the latents fire on. Held-out documents in it are for scores, not for names.
        sae: the SAE whose latents they are.
        model: the subject model.
        store: the activations that the index was made from.
        cache: folder where a namer may keep what is dear to find (answers, word vectors); None
            keeps nothing.
    """

    index: LatentIndex
    sae: SAE | None = None
    model: SubjectModel | None = None
    store: ActivationStore | None = None
    cache: Path | None = None

    def need_sae(self, namer: str) -> SAE:
        """The SAE.

        Raises:
            ConfigError: none was given.
        """
        if self.sae is None:
            raise _missing(namer, "sae", "the SAE that the index is of")
        return self.sae

    def need_model(self, namer: str) -> SubjectModel:
        """The subject model.

        Raises:
            ConfigError: none was given.
        """
        if self.model is None:
            raise _missing(namer, "model", "the subject model")
        return self.model

    def need_store(self, namer: str) -> ActivationStore:
        """The store.

        Raises:
            ConfigError: none was given.
        """
        if self.store is None:
            raise _missing(namer, "store", "the store that the index was made from")
        return self.store


class Namer(Protocol):
    """A way to name latents. It may look at everything of an index but what is held out.

    A namer may have more, as static methods: `needs(config) -> tuple[Part, ...]`, if the index is
    not enough (a command loads these parts and no others); `preview(context, latents, config) ->
    str`, what it would ask somebody else, without asking. One that passes on names that other
    namers gave has `passes_on = True`, and they keep their `namer`.
    """

    Config: type[Any]

    @staticmethod
    def name(context: NamingContext, latents: Sequence[int], config: Any) -> list[Name]:
        """Name live latents; one that it has no name for is left out.

        Raises:
            ConfigError: it needs a part of the context that is missing; the message names it.
        """


NAMERS: Registry[type[Namer]] = Registry(
    "namer", package="saetools.naming.namers", group="saetools.namers"
)


def _missing(namer: str, part: Part, what: str) -> ConfigError:
    return ConfigError(
        f"the namer '{namer}' needs {what}, and none was given; pass {part}= to name_latents"
    )
