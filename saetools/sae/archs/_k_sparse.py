"""The config fields that the k-sparse family shares."""

from pydantic import Field, model_validator

from saetools.sae.config import SAEConfig

__all__ = ["KSparseConfig"]


class KSparseConfig(SAEConfig):
    """An SAE whose sparsity is set by a number of active latents."""

    k: int = Field(
        default=32, ge=1, description="active latents a token (on average, where it varies)"
    )

    @model_validator(mode="after")
    def _k_fits(self) -> "KSparseConfig":
        if self.k > self.n_latents:
            raise ValueError(
                f"k is {self.k} but the dictionary has only {self.n_latents} latents; "
                f"k must lie in 1..n_latents"
            )
        return self
