"""From texts with a concept and texts without it to the latents that tell them apart."""

from saetools.evaluate.concept_search.features import (
    Pooling,
    TextFeatures,
    pool_features,
    store_features,
)
from saetools.evaluate.concept_search.find import find_concept, find_label, search_features
from saetools.evaluate.concept_search.readers import (
    ALL_LATENTS,
    BEST_LATENT,
    MEAN_DIFFERENCE,
    RAW_PROBE,
    Reader,
)
from saetools.evaluate.concept_search.result import ConceptSearch, FoundLatent, Ranking

__all__ = [
    "ALL_LATENTS",
    "BEST_LATENT",
    "MEAN_DIFFERENCE",
    "RAW_PROBE",
    "ConceptSearch",
    "FoundLatent",
    "Pooling",
    "Ranking",
    "Reader",
    "TextFeatures",
    "find_concept",
    "find_label",
    "pool_features",
    "search_features",
    "store_features",
]
