"""Name latents with any namer, then score each name on held-out documents."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from saetools.analysis import LatentIndex
from saetools.config import validate
from saetools.errors import UnknownNameError
from saetools.models import SubjectModel
from saetools.naming.base import NAMERS, Name, Namer, NamingContext, Part
from saetools.naming.score import scored
from saetools.naming.table import NamesTable
from saetools.sae import SAE
from saetools.store import ActivationStore

__all__ = ["name_latents", "parts_needed", "preview_names"]


def name_latents(
    index: LatentIndex,
    *,
    namer: str = "top_tokens",
    sae: SAE | None = None,
    model: SubjectModel | None = None,
    store: ActivationStore | None = None,
    cache: str | Path | None = None,
    latents: Iterable[int] | None = None,
    **config: Any,
) -> NamesTable:
    """Name latents from their training evidence; score the names on held-out documents.

        names = st.name_latents(index, latents=range(500), min_z=4)

    Args:
        index: what the latents fire on.
        namer: which namer.
        sae, model, store: what the index was made from, for namers that need it; they say so.
        cache: folder for what is dear to find: answers of a language model, word vectors.
        latents: which latents; all by default. Dead ones get no name.
        config: the namer's own settings.

    Raises:
        UnknownNameError: no such namer or latent.
        ConfigError: a setting is unknown or out of range, or the namer needs a part that is
            missing.
    """
    plug_in, settings = _plug_in(namer, config)
    folder = None if cache is None else Path(cache)
    context = NamingContext(index, sae=sae, model=model, store=store, cache=folder)
    found = plug_in.name(context, _live(index, latents), settings)
    table = scored(index, found)
    # Only a namer of namers may say who gave a name.
    told = table if getattr(plug_in, "passes_on", False) else _said_by(table, namer)
    return NamesTable(told)


def preview_names(
    index: LatentIndex,
    *,
    namer: str,
    latents: Iterable[int] | None = None,
    cache: str | Path | None = None,
    **config: Any,
) -> str:
    """What a namer would ask somebody else (`llm`: the prompts and an estimate), without asking.

    Returns "" where the namer asks nobody.
    """
    plug_in, settings = _plug_in(namer, config)
    preview: Callable[..., str] | None = getattr(plug_in, "preview", None)
    if preview is None:
        return ""
    context = NamingContext(index, cache=None if cache is None else Path(cache))
    return preview(context, _live(index, latents), settings)


def parts_needed(namer: str, config: Mapping[str, Any]) -> tuple[Part, ...]:
    """What a namer needs beside the index, with these settings."""
    plug_in, settings = _plug_in(namer, config)
    needs: Callable[[Any], tuple[Part, ...]] = getattr(plug_in, "needs", lambda _: ())
    return needs(settings)


def _plug_in(namer: str, config: Mapping[str, Any]) -> tuple[type[Namer], Any]:
    plug_in = NAMERS.get(namer)
    return plug_in, validate(plug_in.Config, dict(config), what=f"namer '{namer}'")


def _live(index: LatentIndex, latents: Iterable[int] | None) -> list[int]:
    """The latents asked for that fire at all, sorted."""
    asked = range(index.n_latents) if latents is None else [int(latent) for latent in latents]
    for latent in asked:
        if not 0 <= latent < index.n_latents:
            raise UnknownNameError(
                f"name_latents: there is no latent {latent}; the index has the latents 0 to "
                f"{index.n_latents - 1}"
            )
    return sorted(set(asked) & set(index.live.tolist()))


def _said_by(names: Iterable[Name], namer: str) -> list[Name]:
    return [replace(name, namer=namer) for name in names]
