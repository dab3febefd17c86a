"""What each latent of an SAE fires on: one pass over a store, kept in one self-contained file."""

from saetools.analysis.attribution import attribute_latents
from saetools.analysis.build import index_latents
from saetools.analysis.index import (
    ConceptHit,
    Context,
    LatentHit,
    LatentIndex,
    LatentView,
)
from saetools.analysis.units import UnitTable

__all__ = [
    "ConceptHit",
    "Context",
    "LatentHit",
    "LatentIndex",
    "LatentView",
    "UnitTable",
    "attribute_latents",
    "index_latents",
]
