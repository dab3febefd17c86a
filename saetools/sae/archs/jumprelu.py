"""JumpReLU: a learned threshold for each latent (Rajamanoharan et al. 2024, 2407.14435).

    z = a · 1[a > θ]      a = (x − b_dec) · W_enc + b_enc
    loss = ‖x − x_hat‖² / V + λ (L0 / L0* − 1)² + λ_p Σ_{j dead} ReLU(θ_j − a_j) ‖w_j‖ / √V

θ has no gradient almost everywhere; it gets the straight-through one of a rectangle of width ε
around it, taken on the pre-activations so that it sees both sides of the jump:

    ∂z/∂θ := −θ/ε · 1[|a − θ| < ε/2]      ∂1[a > θ]/∂θ := −1/ε · 1[|a − θ| < ε/2]

The L0 of the batch is steered to L0* from both sides, so no coefficient has to be found. θ itself
is trained, not its logarithm: Adam moves a parameter by about lr a step, which leaves a logarithm
where it began in a run of 10⁴ to 10⁵ steps. θ starts where the untrained encoder meets L0*, not
near zero, and its steps are √d_in times those of the weights, so that a short run arrives as well.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from saetools.sae.archs._dense import Batch, Dense, Part
from saetools.sae.base import ARCHS
from saetools.sae.config import SAEConfig
from saetools.sae.objective import Objective
from saetools.sae.selection import Encoder, kth_largest, select_above
from saetools.types import SparseLatents

__all__ = ["JumpReLU", "JumpReLUConfig", "jump"]

_START_ROWS = 2048


class JumpReLUConfig(SAEConfig):
    """Fields of a JumpReLU SAE; bandwidth and initial_threshold are in the scale of training."""

    type: Literal["jumprelu"] = Field(default="jumprelu", description="this architecture")
    target_l0: float = Field(default=32.0, gt=0, description="active latents a token")
    sparsity_coefficient: float = Field(
        default=1.0, gt=0, description="λ of the squared distance of the batch's L0 from the target"
    )
    bandwidth: float = Field(
        default=0.1, gt=0, description="ε: width around the threshold in which it gets a gradient"
    )
    initial_threshold: float | None = Field(
        default=None, ge=0, description="θ at the start; null: one at which the target is met"
    )
    pre_act_coefficient: float = Field(
        default=3e-6, ge=0, description="λ_p: pull of dead latents towards their threshold"
    )

    @model_validator(mode="after")
    def _target_fits(self) -> "JumpReLUConfig":
        if self.target_l0 > self.n_latents:
            raise ValueError(
                f"target_l0 is {self.target_l0:g} but the dictionary has only {self.n_latents} "
                "latents; target_l0 must lie in 0..n_latents"
            )
        return self


@ARCHS.register("jumprelu")
class JumpReLU(Dense):
    """Sparse autoencoder whose latents are on above thresholds of their own."""

    Config = JumpReLUConfig
    config: JumpReLUConfig

    def __init__(
        self, config: SAEConfig, *, meta: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__(config, meta=meta, seed=seed)
        start = self.config.initial_threshold or 0.0
        self.threshold = nn.Parameter(torch.full((config.n_latents,), start))

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseLatents:
        """Every pre-activation above the threshold of its latent."""
        self._check_width(x)
        encoder = Encoder(self.W_enc_rows, self.b_enc)
        chosen = select_above(x - self.b_dec, encoder, threshold=self.threshold)
        return chosen.padded(self.config.n_latents)

    @torch.no_grad()
    def begin(self, x: Float[Tensor, "n d_in"]) -> None:
        """Thresholds start where the target L0 is met on these rows, unless the config says."""
        if self.config.initial_threshold is None:
            pre_acts = self.pre_acts(x[:_START_ROWS]).flatten()
            budget = max(round(self.config.target_l0 * len(x[:_START_ROWS])), 1)
            self.threshold.fill_(max(kth_largest(pre_acts, budget), 0.0))

    def lr_factor(self, name: str) -> float:
        """√d_in for thresholds: as far as a step of the weights moves a pre-activation."""
        return float(self.config.d_in**0.5) if name == "threshold" else super().lr_factor(name)

    @torch.no_grad()
    def constrain(self) -> None:
        """Thresholds are not negative."""
        self.threshold.clamp_(min=0)

    @torch.no_grad()
    def _batch(self, x: Tensor, objective: Objective) -> Batch:
        n_active = sum(
            int((self.pre_acts(x[start:stop]) > self.threshold).sum())
            for start, stop in self._chunks(len(x))
        )
        n = objective.rows.total(len(x))
        return Batch(n, objective.rows.total(n_active) / max(n, 1))

    def _part(self, x: Tensor, target: Tensor, objective: Objective, batch: Batch) -> Part:
        n, wanted = max(batch.n_tokens, 1), self.config.target_l0
        pre_acts = self.pre_acts(x)
        latents, n_active = jump(pre_acts, self.threshold, bandwidth=self.config.bandwidth)
        error = (target - torch.addmm(self.b_dec, latents, self.W_dec)).square().sum()
        # The square as its value at the batch's L0 plus its slope there: a sum over tokens.
        away = batch.l0 / wanted - 1
        weight = self.config.sparsity_coefficient * objective.sparsity
        off = away**2 * len(x) / n + 2 * away / wanted * (n_active - n_active.detach()) / n
        total = error / (objective.variance * n) + weight * off
        if objective.dead is not None and self.config.pre_act_coefficient > 0:
            price = self.config.pre_act_coefficient / (objective.variance**0.5 * n)
            total = total + price * self._shortfall(pre_acts, objective.dead)
        return Part(total, error, latents.detach())

    def _shortfall(self, pre_acts: Tensor, dead: Tensor) -> Tensor:
        which = dead.nonzero().squeeze(-1)
        short = (self.threshold[which] - pre_acts[:, which]).relu()
        total: Tensor = (short @ self.W_dec[which].norm(dim=1)).sum()
        return total

    def _scaled_names(self) -> tuple[str, ...]:
        return (*super()._scaled_names(), "threshold")


def jump(
    pre_acts: Float[Tensor, "n n_latents"],
    threshold: Float[Tensor, " n_latents"],
    *,
    bandwidth: float,
) -> tuple[Float[Tensor, "n n_latents"], Float[Tensor, ""]]:
    """Latents that pass their thresholds, and how many do; both with straight-through gradients."""
    latents, n_active = _Jump.apply(pre_acts, threshold, bandwidth)  # type: ignore[no-untyped-call]
    return latents, n_active


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pre_acts: Tensor, threshold: Tensor, bandwidth: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pre_acts, threshold)
        ctx.bandwidth = bandwidth
        on = pre_acts > threshold
        return pre_acts * on, on.sum().to(pre_acts.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_latents, grad_active = grads
        pre_acts, threshold = ctx.saved_tensors
        near = (pre_acts - threshold).abs_() < ctx.bandwidth / 2
        by_jump = (grad_latents * near).sum(0) * threshold
        grad_threshold = -(by_jump + grad_active * near.sum(0)) / ctx.bandwidth
        return grad_latents * (pre_acts > threshold), grad_threshold, None
