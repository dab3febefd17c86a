"""The settings of architectures whose sparsity comes from an L1 term, and its scale."""

from pydantic import Field, model_validator
from torch import Tensor

from saetools.sae.archs._dense import Batch, Dense
from saetools.sae.config import SAEConfig
from saetools.sae.objective import Objective

__all__ = ["L1", "L1Config"]


class L1Config(SAEConfig):
    """An SAE with a sparsity term that training moves until a wanted L0 is met."""

    target_l0: float | None = Field(
        default=32.0,
        gt=0,
        description="active latents a token that training steers to by moving the sparsity term; "
        "null: the coefficient stays as it is",
    )
    l1_coefficient: float = Field(
        default=0.1,
        ge=0,
        description="of the sum of latents, in units of the root of the data's variance; where "
        "training starts from, if there is a target_l0",
    )

    @model_validator(mode="after")
    def _target_fits(self) -> "L1Config":
        if self.target_l0 is not None and self.target_l0 > self.n_latents:
            raise ValueError(
                f"target_l0 is {self.target_l0:g} but the dictionary has only {self.n_latents} "
                "latents; target_l0 must lie in 0..n_latents"
            )
        return self


class L1(Dense):
    """An SAE that pays for the size of its latents."""

    config: L1Config

    @property
    def target_l0(self) -> float | None:
        """The L0 that training steers to."""
        return self.config.target_l0

    def _price(self, objective: Objective, batch: Batch) -> Tensor | float:
        """What a latent of size 1 costs; it is in the units of the data, so over their size."""
        scale = objective.variance**0.5 * max(batch.n_tokens, 1)
        price: Tensor | float = objective.sparsity * (self.config.l1_coefficient / scale)
        return price
