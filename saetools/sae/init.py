"""Where training starts: the decoder bias from data (everything else comes from the seed)."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["geometric_median"]


def geometric_median(
    x: Float[Tensor, "n d_in"], *, steps: int = 100, tolerance: float = 1e-5
) -> Float[Tensor, " d_in"]:
    """The point with the least summed distance to the rows of `x`, by Weiszfeld's iteration.

    It starts at the mean and stops when a step moves less than `tolerance` of the mean distance.
    """
    median = x.mean(0)
    for _ in range(steps):
        distance = (x - median).norm(dim=1).clamp_min(1e-6)
        weight = distance.reciprocal()
        moved: Tensor = (weight @ x) / weight.sum()
        if float((moved - median).norm()) < tolerance * float(distance.mean()):
            return moved
        median = moved
    return median
