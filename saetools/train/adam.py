"""Adam over an SAE's parameters: a step takes gradients as they arose and writes none of them."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from saetools.sae import SAE, Gradients, ops
from saetools.sae.sharing import ALONE, Ranks
from saetools.train.config import AdamConfig

__all__ = ["RowAdam"]

_MOMENTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class RowAdam:
    """Moments of every parameter, and the step that uses them.

    The rows of W_dec keep unit norm where the SAE asks for it: the part of their gradient that lies
    along them is removed before the step, and they are brought back to norm 1 after it.

    Args:
        sae: whose parameters; read for their shapes only.
        config: decays, ε, clipping, precision of the moments of the matrices.
        latents: the processes that share the dictionary.
    """

    def __init__(self, sae: SAE, config: AdamConfig, latents: Ranks = ALONE) -> None:
        self.config = config
        self._latents = latents
        self.n_steps_done = 0
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        for name, parameter in sae.named_parameters():
            dtype = _MOMENTS[config.moments] if parameter.ndim == 2 else parameter.dtype
            dtype = parameter.dtype if config.moments == "float32" else dtype
            one, two = (torch.zeros_like(parameter.detach(), dtype=dtype) for _ in range(2))
            self.moments[name] = (one, two)

    @torch.no_grad()
    def step(
        self,
        sae: SAE,
        gradients: Gradients,
        *,
        lr: float,
        shadows: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Change the weights of `sae`, copies of them and the moments by one step of size `lr`."""
        shadows = shadows or {}
        self.n_steps_done += 1
        scale = self._clipping(sae, gradients)
        for name, parameter in sae.named_parameters():
            settings = ops.AdamSettings(
                lr=lr * sae.lr_factor(name),
                step=self.n_steps_done,
                beta1=self.config.beta1,
                beta2=self.config.beta2,
                eps=self.config.eps,
                unit_rows=_on_sphere(sae, name),
                scale=scale,
                lazy=self.config.lazy and parameter.ndim == 2,
            )
            m, v = self.moments[name]
            weight, gradient = parameter.detach(), gradients[name]
            if weight.ndim == 1:
                weight, m, v = weight.unsqueeze(0), m.unsqueeze(0), v.unsqueeze(0)
                assert gradient.whole is not None, "the gradient of a vector is whole"
                gradient = ops.RowGradient(whole=gradient.whole.unsqueeze(0))
            ops.adam_rows(weight, m, v, gradient, settings, shadow=shadows.get(name))

    def state(self) -> dict[str, Tensor]:
        """All moments by name, not copied: for a checkpoint."""
        return {
            f"{order}.{name}": moment
            for name, pair in self.moments.items()
            for order, moment in zip(("m", "v"), pair, strict=True)
        }

    def _clipping(self, sae: SAE, gradients: Gradients) -> float:
        """What gradients are multiplied by, so that their norm together is at most the limit."""
        limit = self.config.max_grad_norm
        if limit is None:
            return 1.0
        shared = own = torch.zeros((), dtype=torch.float64)
        for name, parameter in sae.named_parameters():
            gradient = gradients[name]
            if parameter.ndim == 1:
                assert gradient.whole is not None, "the gradient of a vector is whole"
                square = gradient.whole.square().sum()
            else:
                square = ops.gradient_squared_norm(
                    parameter.detach(), gradient, unit_rows=_on_sphere(sae, name)
                )
            if name in sae.by_latent:
                own = own + square
            else:
                shared = shared + square
        total = float(shared + self._latents.sum(own))
        return min(1.0, limit / max(math.sqrt(total), 1e-30))


def _on_sphere(sae: SAE, name: str) -> bool:
    return name == "W_dec" and sae.unit_norm_decoder
