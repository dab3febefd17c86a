"""The config that every architecture extends."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SAEConfig"]


class SAEConfig(BaseModel):
    """Fields that every architecture has; each adds its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="architecture: a file name in saetools/sae/archs")
    d_in: int = Field(ge=1, description="width of the activation that is read")
    n_latents: int = Field(ge=1, description="size of the dictionary")
