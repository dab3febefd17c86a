"""Name latents with any namer, then score each name on held-out documents."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from saetools.analysis import LatentIndex
from saetools.config import validate
from saetools.errors import UnknownNameError
from saetools.models import SubjectModel
from saetools.naming.base import NAMERS, NamingContext
from saetools.naming.score import scored
from saetools.naming.table import NamesTable
from saetools.sae import SAE
from saetools.store import ActivationStore

__all__ = ["name_latents"]


def name_latents(
    index: LatentIndex,
    *,
    namer: str = "top_tokens",
    sae: SAE | None = None,
    model: SubjectModel | None = None,
    store: ActivationStore | None = None,
    latents: Iterable[int] | None = None,
    **config: Any,
) -> NamesTable:
    """Name latents from their training evidence; score the names on held-out documents.

        names = st.name_latents(index, latents=range(500), min_z=4)

    Args:
        index: what the latents fire on.
        namer: which namer.
        sae, model, store: what the index was made from, for namers that need it; they say so.
        latents: which latents; all by default. Dead ones get no name.
        config: the namer's own settings.

    Raises:
        UnknownNameError: no such namer or latent.
        ConfigError: a setting is unknown or out of range, or the namer needs a part that is
            missing.
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
    context = NamingContext(index, sae=sae, model=model, store=store)
    found = plug_in.name(context, sorted(set(asked) & alive), settings)
    return NamesTable([replace(name, namer=namer) for name in scored(index, found)])
