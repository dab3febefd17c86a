"""Ask several namers, in order: a latent has the name of the first that is sure enough.

    st.name_latents(index, namer="first_of", namers=["labels", "top_tokens"])

The order is the user's. Confidences of different namers are not of one scale (a cosine, a share of
activation, an AUROC), so they are not compared with each other: put first whom you trust most.
Where nobody is sure, the first that says anything is heard. Each name keeps its namer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from saetools.config import validate
from saetools.errors import ConfigError
from saetools.naming.base import NAMERS, Name, NamerConfig, NamingContext, Part

__all__ = ["FirstOf", "FirstOfConfig"]

_ME = "first_of"


class FirstOfConfig(NamerConfig):
    """Whom to ask, in which order."""

    namers: tuple[str, ...] = Field(
        default=("labels", "top_tokens"), description="names of namers, most trusted first"
    )
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="settings of a namer, by its name"
    )
    min_confidence: float = Field(
        default=0.0, ge=0, le=1, description="a name is sure enough above this; 0: any evidence"
    )


@NAMERS.register(_ME)
class FirstOf:
    """Names of several namers."""

    Config = FirstOfConfig
    passes_on = True

    @staticmethod
    def needs(config: FirstOfConfig) -> tuple[Part, ...]:
        """What any of them needs."""
        parts: list[Part] = []
        for plug_in, settings in _asked(config).values():
            needs: Callable[[Any], tuple[Part, ...]] = getattr(plug_in, "needs", lambda _: ())
            parts += needs(settings)
        return tuple(dict.fromkeys(parts))

    @staticmethod
    def name(context: NamingContext, latents: Sequence[int], config: FirstOfConfig) -> list[Name]:
        """Name each latent once; a namer is asked only for latents that still have no name."""
        sure: dict[int, Name] = {}
        unsure: dict[int, Name] = {}
        for namer, (plug_in, settings) in _asked(config).items():
            open_ = [latent for latent in latents if latent not in sure]
            for name in plug_in.name(context, open_, settings):
                kept = sure if name.confidence > config.min_confidence else unsure
                kept.setdefault(name.latent, replace(name, namer=namer))
        found = {**unsure, **sure}
        return [found[latent] for latent in latents if latent in found]

    @staticmethod
    def preview(context: NamingContext, latents: Sequence[int], config: FirstOfConfig) -> str:
        """What each of them would ask, were it asked for all latents."""
        parts = []
        for namer, (plug_in, settings) in _asked(config).items():
            preview: Callable[..., str] | None = getattr(plug_in, "preview", None)
            if preview is not None:
                parts.append(f"{namer}: {preview(context, latents, settings)}")
        return "\n\n".join(parts)


def _asked(config: FirstOfConfig) -> Mapping[str, tuple[Any, Any]]:
    """Each namer with its own settings, checked."""
    if not config.namers or _ME in config.namers or len(set(config.namers)) < len(config.namers):
        raise ConfigError(
            f"the namer '{_ME}' asks at least one namer, each once and not itself; got "
            f"{', '.join(config.namers) or 'none'}"
        )
    if strangers := sorted(set(config.settings) - set(config.namers)):
        raise ConfigError(
            f"settings are given for {', '.join(strangers)}, and the namers are "
            f"{', '.join(config.namers)}; leave them out or add the namer"
        )
    found = {}
    for namer in config.namers:
        plug_in = NAMERS.get(namer)
        values = config.settings.get(namer, {})
        found[namer] = plug_in, validate(plug_in.Config, values, what=f"namer '{namer}'")
    return found
