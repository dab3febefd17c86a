"""Texts of the planted world: made-up entities with facts drawn at random, labels known."""

from typing import Literal

from pydantic import Field

from saetools.corpus.base import CORPORA, CorpusConfig, Document
from saetools.corpus.planted import World

__all__ = ["PlantedWorld", "PlantedWorldConfig"]


class PlantedWorldConfig(CorpusConfig):
    """Which world, and which of its texts."""

    n_docs: int = Field(default=2000, ge=1, description="number of documents")
    label: Literal["topic", "sentiment", "register"] = Field(
        default="topic", description="what a document's label says of it"
    )
    world_seed: int = Field(
        default=0, description="seed of the world; 0 is the one that the model 'planted' has read"
    )
    n_entities: int = Field(default=200, ge=40, le=1000, description="entities of the world")
    seed: int = Field(default=0, description="another seed gives other texts of the same world")
    without_forget: bool = Field(
        default=False, description="leave out every sentence about a forget entity"
    )

    @property
    def source(self) -> str:
        """The world, by its seed."""
        return str(self.world_seed)


@CORPORA.register("planted_world")
class PlantedWorld:
    """Facts in several forms between everyday sentences."""

    Config = PlantedWorldConfig

    @staticmethod
    def load(config: PlantedWorldConfig) -> list[Document]:
        """Write the documents."""
        world = World.build(seed=config.world_seed, n_entities=config.n_entities)
        without = world.forget_entities if config.without_forget else ()
        texts = world.documents(config.n_docs, config.seed, without)
        return [text.document(config.label) for text in texts]
