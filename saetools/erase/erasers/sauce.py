"""SAUCE: latents by a contrast of texts with and without the concept, scaled down at every token.

    s_j = (m_P − m_N) / (m_P + m_N + ε)    m: mean over texts of the largest activation in the text
    z_j -> γ · z_j                          γ = 0 switches off, γ < 0 pushes beyond

Li et al., ICCV 2025 (arXiv:2503.14530, withdrawn by an author for want of comparisons). No code is
public; the contrastive form and the floor on the firing rate are our reading of the paper.
"""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from saetools.erase.base import ERASERS
from saetools.erase.latents import LatentEraser
from saetools.erase.select import Score, SelectConfig

__all__ = ["Sauce", "SauceConfig"]


class SauceConfig(SelectConfig):
    """Latents are counted by text; a contrast needs a floor on the rate, or rare noise wins."""

    factor: float = Field(default=0.0, le=1, description="what the activations are multiplied by")
    score: Score = Field(default="contrast", description="what ranks latents")
    count_by: Literal["row", "text"] = Field(
        default="text", description="what rates and means are over"
    )
    min_forget_rate: float = Field(
        default=0.2, ge=0, le=1, description="fires in at least this share of the forget texts"
    )


@ERASERS.register("sauce")
class Sauce(LatentEraser):
    """Scales the concept's latents by a factor, zero or negative."""

    Config = SauceConfig
    config: SauceConfig

    def new_activations(self, old: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """γ times what they were."""
        return self.config.factor * old
