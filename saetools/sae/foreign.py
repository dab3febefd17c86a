"""The door to files of other tools: asked by `SAE.load` and `SAE.save`, filled by a floor above.

The floors forbid that `saetools.sae` imports `saetools.formats`, and rightly: an SAE needs no
other tool. So the reader is a plug-in, as architectures are: found by name, imported when first
asked for.
"""

from pathlib import Path
from typing import Any, Protocol

from saetools.registry import Registry

__all__ = ["FOREIGN", "OWN_NAME", "ForeignFiles"]

OWN_NAME = "saetools"
"""What `format` calls our own folders."""


class ForeignFiles(Protocol):
    """What reads and writes SAEs of other tools."""

    @staticmethod
    def load(path: str | Path, *, format: str | None) -> Any:
        """The SAE at `path`; None where no format is recognised and none was named."""

    @staticmethod
    def save(sae: Any, path: str | Path, *, format: str) -> Path:
        """Write `sae` in a named format."""


FOREIGN: Registry[type[ForeignFiles]] = Registry(
    "reader of other tools' files", package="saetools.formats", group="saetools.foreign_files"
)
"""Holds one entry, "any_format"."""
