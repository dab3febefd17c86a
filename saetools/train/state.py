"""What changes during training, and the one function in which it changes."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.sae import SAE
from saetools.train.config import TrainConfig

__all__ = ["Scales", "StepReport", "TrainState", "step"]


class Scales(NamedTuple):
    """Fixed scalars of the data.

    scale brings activations to mean ‖x‖² = d_in; variance is Σ over dimensions of the variance of
    the scaled data.
    """

    scale: float
    variance: float


@dataclass
class TrainState:
    """Everything that a step reads and writes; a checkpoint is this and nothing else.

    Args:
        sae: weights in the scale of training.
        optimizer: Adam over the SAE's parameters.
        n_steps_done: steps taken.
        tokens_since_fired: for each latent, shape (n_latents,).
        hint: threshold of the last selection, which speeds the next one up.
    """

    sae: SAE
    optimizer: torch.optim.Adam
    n_steps_done: int
    tokens_since_fired: Int[Tensor, " n_latents"]
    hint: float | None

    @classmethod
    def fresh(cls, sae: SAE) -> "TrainState":
        """State before the first step."""
        # ε is small because the loss is a fraction and its gradients are tiny. The fused form
        # the same arithmetic in one pass, 4-9 times faster on a CPU.
        optimizer = torch.optim.Adam(sae.parameters(), lr=0.0, eps=6.25e-10, fused=True)
        since = torch.zeros(sae.config.n_latents, dtype=torch.int64, device=sae.device)
        return cls(sae, optimizer, 0, since, None)

    def dead(self, config: TrainConfig) -> Tensor:
        """Latents that have not fired for the window, bool (n_latents,)."""
        return self.tokens_since_fired > config.dead_window


class StepReport(NamedTuple):
    """Figures of one step, still on the device: scalars."""

    loss: Float[Tensor, ""]
    fvu: Float[Tensor, ""]
    l0: float
    lr: float


def step(
    state: TrainState, x: Float[Tensor, "n d_in"], config: TrainConfig, scales: Scales
) -> StepReport:
    """Take one optimiser step on a batch in raw activation units; changes `state` in place."""
    sae = state.sae
    lr = config.lr_at(state.n_steps_done, sae.config.n_latents)
    loss = sae.loss(
        x * scales.scale,
        variance=scales.variance,
        dead=state.dead(config) if config.aux_coefficient > 0 else None,
        k_aux=config.k_aux,
        aux_coefficient=config.aux_coefficient,
        hint=state.hint,
    )
    state.optimizer.zero_grad(set_to_none=True)
    loss.total.backward()  # type: ignore[no-untyped-call]  # torch is untyped here
    _drop_parallel_gradient(sae)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.optimizer.step()
    _renormalise(sae)

    fired = torch.bincount(loss.selection.latents, minlength=sae.config.n_latents) > 0
    state.tokens_since_fired += len(x)
    state.tokens_since_fired[fired] = 0
    values = loss.selection.values
    state.hint = float(values.min()) if len(values) else None
    state.n_steps_done += 1
    return StepReport(loss.total.detach(), loss.fvu, len(values) / max(len(x), 1), lr)


@torch.no_grad()
def _drop_parallel_gradient(sae: SAE) -> None:
    """Remove from each decoder row's gradient the part along the row: it would change its norm."""
    grad = sae.W_dec.grad
    assert grad is not None
    along = (grad * sae.W_dec).sum(1, keepdim=True)
    grad.addcmul_(along, sae.W_dec, value=-1.0)


@torch.no_grad()
def _renormalise(sae: SAE) -> None:
    """Bring every decoder row back to unit norm."""
    sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))
