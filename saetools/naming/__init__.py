"""Names for latents: a namer looks at training documents, the score comes from held-out ones."""

from saetools.naming.base import NAMERS, Name, Namer, NamerConfig, NamingContext
from saetools.naming.run import name_latents, preview_names
from saetools.naming.search import NameHit, NameSearch
from saetools.naming.table import NamesTable

__all__ = [
    "NAMERS",
    "Name",
    "NameHit",
    "NameSearch",
    "Namer",
    "NamerConfig",
    "NamesTable",
    "NamingContext",
    "name_latents",
    "preview_names",
]
