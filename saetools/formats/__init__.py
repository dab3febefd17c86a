"""SAEs in the formats of other tools: read, written, and proved to compute the same."""

from saetools.formats.any_format import detect, read, save
from saetools.formats.base import FORMATS, Foreign, Format, Note
from saetools.formats.card import write_hub_folder
from saetools.formats.convert import Conversion, convert, from_store
from saetools.formats.hub import pull, push
from saetools.formats.proof import Proof

__all__ = [
    "FORMATS",
    "Conversion",
    "Foreign",
    "Format",
    "Note",
    "Proof",
    "convert",
    "detect",
    "from_store",
    "pull",
    "push",
    "read",
    "save",
    "write_hub_folder",
]
