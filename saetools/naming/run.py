"""Name latents with any namer, then score each name on held-out documents."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from saetools.analysis import LatentIndex
from saetools.config import validate
from saetools.errors import UnknownNameError
from saetools.naming.base import NAMERS
from saetools.naming.score import scored
from saetools.naming.table import NamesTable

__all__ = ["name_latents"]


def name_latents(
    index: LatentIndex,
    *,
    namer: str = "top_tokens",
    latents: Iterable[int] | None = None,
    **config: Any,
) -> NamesTable:
    """Name latents from their training evidence; score the names on held-out documents.

        names = st.name_latents(index, latents=range(500), min_z=4)

    Args:
        index: what the latents fire on.
        namer: which namer.
        latents: which latents; all by default. Dead ones get no name.
        config: the namer's own settings.

    Raises:
        UnknownNameError: no such namer or latent.
        ConfigError: a setting is unknown or out of range.
    """
    plug_in = NAMERS.get(namer)
    settings = validate(plug_in.Config, config, what=f"namer '{namer}'")
    asked = range(index.n_latents) if latents is None else [int(latent) for latent in latents]
    for latent in asked:
        if not 0 <= latent < index.n_latents:
            raise UnknownNameError(
                f"name_latents: there is no latent {latent}; the index has the latents 0 to "
                f"{index.n_latents - 1}"
            )
    alive = set(index.live.tolist())
    found = plug_in.name(index, sorted(set(asked) & alive), settings)
    return NamesTable([replace(name, namer=namer) for name in scored(index, found)])
