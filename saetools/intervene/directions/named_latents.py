"""Directions of the dictionary: decoder rows of latents, by number or by the name they have."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from saetools.errors import UnknownNameError, nearest
from saetools.intervene.base import check_latents
from saetools.intervene.directions._base import Direction
from saetools.sae import SAE

__all__ = ["Named", "latent_direction", "latents_named"]


class Named(Protocol):
    """A row of a table of names, e.g. of `NamesTable`."""

    @property
    def latent(self) -> int:
        """The latent."""

    @property
    def name(self) -> str:
        """What it is called."""


def latents_named(rows: Iterable[Named], name: str) -> list[int]:
    """Latents with this name, or else those whose name contains it, in any case.

    Raises:
        UnknownNameError: there is none; the message has the nearest names.
    """
    table = [(row.name, int(row.latent)) for row in rows if row.name]
    wanted = name.casefold()
    hits = [latent for called, latent in table if called.casefold() == wanted]
    hits = hits or [latent for called, latent in table if wanted in called.casefold()]
    if not hits:
        near = ", ".join(nearest(name, {called for called, _ in table})) or "none"
        raise UnknownNameError(f"no latent is called '{name}'; the nearest names are: {near}")
    return hits


def latent_direction(sae: SAE, weights: Mapping[int, float] | Iterable[int]) -> Direction:
    """Σ weight · W_dec[latent], at the SAE's hook; latents without weights count once each.

    Raises:
        UnknownNameError: a latent is not in the dictionary.
    """
    given = weights if isinstance(weights, Mapping) else dict.fromkeys(weights, 1.0)
    chosen = check_latents(sae, given)
    rows = sae.W_dec.detach()[chosen].float().cpu()
    vector = sum(
        (given[latent] * row for latent, row in zip(chosen.tolist(), rows, strict=True)),
        rows[0] * 0,
    )
    info = {"latents": {str(latent): float(given[latent]) for latent in chosen.tolist()}}
    return Direction(vector, "latents", sae.meta.get("hook_name"), info)
