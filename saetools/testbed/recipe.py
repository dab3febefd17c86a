"""How a planted model is made: the settings of its world, its size and its training."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from saetools.corpus.planted import World

__all__ = ["VARIANTS", "Recipe", "Variant"]


class Recipe(BaseModel):
    """Settings of a training run; the defaults are those of the shipped models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    world_seed: int = Field(default=0, description="seed of the world")
    n_entities: int = Field(default=200, ge=40, le=1000, description="entities of the world")
    n_docs: int = Field(
        default=120_000, ge=1, description="documents read, each once; about 77 tokens each"
    )
    ctx_len: int = Field(default=160, ge=16, description="tokens of a row, and of the context")
    batch_rows: int = Field(default=16, ge=1, description="rows of a step")
    lr: float = Field(default=3e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(default=0.01, ge=0, description="of the matrices")
    d_model: int = Field(default=128, ge=8, description="width of the residual stream")
    n_layers: int = Field(default=4, ge=1, description="blocks")
    n_heads: int = Field(default=4, ge=1, description="attention heads of a block")
    d_mlp: int = Field(default=512, ge=8, description="width inside a block's MLP")
    precision: Literal["bfloat16", "float32"] = Field(
        default="bfloat16",
        description="of the matrix products; weights, norms and the loss are float32 either way",
    )


class Variant(BaseModel):
    """One of the models of a recipe.

    An oracle of seed s has read the same documents in the same order as a base model of seed s,
    but for the sentences about forget entities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, description="of the initial weights and of the documents")
    reads_forget: bool = Field(default=True, description="False of an oracle")

    def without(self, world: World) -> tuple[str, ...]:
        """Names of the entities that this model never reads about."""
        return () if self.reads_forget else world.forget_entities


VARIANTS = {
    "base": Variant(seed=0),
    "oracle-0": Variant(seed=0, reads_forget=False),
    "oracle-1": Variant(seed=1, reads_forget=False),
}
