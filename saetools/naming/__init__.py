"""Names for latents: a namer looks at training documents, the score comes from held-out ones."""

from saetools.naming.base import NAMERS, Name, Namer, NamerConfig, NamingContext
from saetools.naming.run import name_latents, preview_names
from saetools.naming.scores import SCORERS, ScoreTable, score_names
from saetools.naming.search import NameHit, NameSearch
from saetools.naming.table import NamesTable

__all__ = [
    "NAMERS",
    "SCORERS",
    "Name",
    "NameHit",
    "NameSearch",
    "Namer",
    "NamerConfig",
    "NamesTable",
    "NamingContext",
    "ScoreTable",
    "name_latents",
    "preview_names",
    "score_names",
]
