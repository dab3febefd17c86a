"""Where directions come from, besides the dictionary: one file a source."""

from saetools.intervene.directions._base import Direction
from saetools.intervene.directions.difference_of_means import (
    difference_of_means,
    rows_of_texts,
    text_contrast,
)
from saetools.intervene.directions.linear_relation import (
    Relation,
    exchange,
    fit_relation,
    mean_jacobian,
)
from saetools.intervene.directions.named_latents import latent_direction, latents_named
from saetools.intervene.directions.repit import repit
from saetools.intervene.directions.unembedding import unembedding, unembedding_matrix

__all__ = [
    "Direction",
    "Relation",
    "difference_of_means",
    "exchange",
    "fit_relation",
    "latent_direction",
    "latents_named",
    "mean_jacobian",
    "repit",
    "rows_of_texts",
    "text_contrast",
    "unembedding",
    "unembedding_matrix",
]
