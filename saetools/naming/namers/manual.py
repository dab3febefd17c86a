"""Names that a person wrote into a CSV: `latent` and `name`, and any column of a names table.

The whole of names.csv may be given after editing it: rows that say another namer are left alone, so
write "manual" into `namer` of those that are yours (or leave it empty).
"""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from saetools.errors import ConfigError, FormatError
from saetools.naming.base import MANUAL, NAMERS, Name, NamerConfig, NamingContext
from saetools.naming.table import NamesTable

__all__ = ["Manual", "ManualConfig"]


class ManualConfig(NamerConfig):
    """Where the names are."""

    path: str = Field(default="", description="the CSV; columns latent and name at least")


@NAMERS.register(MANUAL)
class Manual:
    """Names from a file."""

    Config = ManualConfig

    @staticmethod
    def name(context: NamingContext, latents: Sequence[int], config: ManualConfig) -> list[Name]:
        """The person's names of the latents.

        Raises:
            ConfigError: no file was named.
            FormatError: the file is missing or damaged, names a latent that the index has not, or
                holds no name of a person.
        """
        if not config.path:
            raise ConfigError(
                "the namer 'manual' reads a CSV, and none was named; set path (in a run: "
                "naming.path=names.csv), with the columns latent and name"
            )
        written = NamesTable.load(config.path)
        mine = [name for name in written if name.namer == MANUAL]
        n_latents = context.index.n_latents
        if unknown := [name.latent for name in mine if not 0 <= name.latent < n_latents]:
            raise FormatError(
                f"{config.path} names latent {unknown[0]}, and the index has the latents 0 to "
                f"{n_latents - 1}; is it of another SAE?"
            )
        if not mine:
            raise FormatError(
                f'{config.path} has {len(written):,} names, none of a person; write "manual" '
                "into the column namer of those that are yours, or leave it empty"
            )
        asked = set(latents)
        return [
            replace(name, rationale=name.rationale or "a person says so")
            for name in mine
            if name.latent in asked
        ]
