"""SAEs in the formats of other tools: read, written, and proved to compute the same."""

from saetools.formats.any_format import detect, read, save
from saetools.formats.base import FORMATS, Foreign, Format, Note
from saetools.formats.card import write_hub_folder
from saetools.formats.hub import pull, push
from saetools.formats.proof import Proof

__all__ = [
    "FORMATS",
    "Foreign",
    "Format",
    "Note",
    "Proof",
    "detect",
    "pull",
    "push",
    "read",
    "save",
    "write_hub_folder",
]
