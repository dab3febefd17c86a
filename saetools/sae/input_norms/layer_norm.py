"""LayerNorm without gain: a token less its mean, over its standard deviation (n − 1) plus ε."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from saetools.sae.base import INPUT_NORMS
from saetools.sae.normed import InputNorm, Spread

__all__ = ["LayerNorm"]


@INPUT_NORMS.register("layer_norm")
@dataclass(frozen=True)
class LayerNorm(InputNorm):
    """As OpenAI's SAEs and SAELens' `layer_norm` have it; ε does not come back in the output."""

    eps: float = 1e-5

    def measure(self, x: Float[Tensor, "n d_in"]) -> Spread:
        """The mean and the standard deviation of each token."""
        mean = x.mean(dim=-1, keepdim=True)
        spread = x.std(dim=-1, keepdim=True)
        return Spread(mean, spread, spread + self.eps)

    def scaled(self, scale: float) -> "LayerNorm":
        """The same for tokens that are `scale` times as small."""
        return LayerNorm(self.eps / scale)
