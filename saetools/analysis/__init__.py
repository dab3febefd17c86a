"""What each latent of an SAE fires on: one pass over a store, kept in one self-contained file."""

from saetools.analysis.attribution import attribute_latents
from saetools.analysis.build import index_latents, room_for
from saetools.analysis.index import LatentIndex
from saetools.analysis.logit_lens import LatentLogits, LogitTable
from saetools.analysis.neighbours import Neighbours, nearest_to
from saetools.analysis.postings import Postings
from saetools.analysis.prompt import PromptReading
from saetools.analysis.units import UnitTable
from saetools.analysis.views import ConceptHit, Context, LatentHit, LatentView

__all__ = [
    "ConceptHit",
    "Context",
    "LatentHit",
    "LatentIndex",
    "LatentLogits",
    "LatentView",
    "LogitTable",
    "Neighbours",
    "Postings",
    "PromptReading",
    "UnitTable",
    "attribute_latents",
    "index_latents",
    "nearest_to",
    "room_for",
]
