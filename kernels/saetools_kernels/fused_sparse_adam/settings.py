"""The numbers of one Adam step."""

from dataclasses import dataclass

__all__ = ["AdamSettings"]


@dataclass(frozen=True)
class AdamSettings:
    """What a step needs besides the tensors.

    Args:
        lr: step size.
        step: number of this step, counted from 1; corrects the bias of the moments.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the root of the second moment.
        unit_rows: keep every row at unit norm: the part of the gradient along the row is removed
            before the step, the row is brought back to norm 1 after it.
        scale: the gradient is multiplied by it first (clipping).
        lazy: rows whose gradient is zero keep their weights and moments, where Adam would let the
            moments decay and move them; cheaper for latents that rarely fire, and another method.
    """

    lr: float
    step: int
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    unit_rows: bool = False
    scale: float = 1.0
    lazy: bool = False
