"""What changes during training, and the one function in which it changes."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.sae import SAE, Loss, Objective, Scratch
from saetools.sae.sharing import ALONE, Ranks
from saetools.train.adam import RowAdam
from saetools.train.config import TrainConfig
from saetools.train.scales import Scales

__all__ = ["StepReport", "TrainState", "step"]

_COMPUTE = {"float32": None, "bfloat16": torch.bfloat16, "mixed": None}
_SHADOWED = ("W_enc_rows", "W_dec")
_THRESHOLD_MEMORY = 0.99
# By how much the logarithm of the sparsity term moves for every factor e that L0 is off its target,
# over a run, and at least in a step: quick enough for a short run, slow enough to settle in it.
_CONTROL_PER_RUN = 30.0
_CONTROL_PER_STEP = 1e-3


@dataclass
class TrainState:
    """Everything that a step reads and writes; a checkpoint is this and nothing else.

    Args:
        sae: weights in the scale of training.
        optimizer: Adam over the SAE's parameters.
        n_steps_done: steps taken.
        tokens_since_fired: for each latent, shape (n_latents,).
        hint: threshold of the last selection, which speeds the next one up.
        threshold_ema: running mean of the smallest active value of a batch.
        sparsity: factor on the sparsity term, moved towards the SAE's target L0 where it has one.
        average: running sum of the weights by name, for the mean of `adam.ema_decay`.
        rows: the processes that share the rows of a batch.
        latents: the processes that share the dictionary; `sae` is then a slice, and so is all here
            that has a row or number a latent.
        scratch: memory of a step; holds nothing between steps.
        shadows: 16-bit copies of the matrices, for mixed precision; a function of `sae`.
    """

    sae: SAE
    optimizer: RowAdam
    n_steps_done: int
    tokens_since_fired: Int[Tensor, " n_latents"]
    hint: float | None = None
    threshold_ema: float | None = None
    sparsity: float = 1.0
    average: dict[str, Tensor] | None = None
    rows: Ranks = ALONE
    latents: Ranks = ALONE
    scratch: Scratch = field(default_factory=Scratch)
    shadows: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def fresh(
        cls, sae: SAE, config: TrainConfig, *, rows: Ranks = ALONE, latents: Ranks = ALONE
    ) -> "TrainState":
        """State before the first step."""
        since = torch.zeros(len(sae.W_dec), dtype=torch.int64, device=sae.device)
        average = None
        if config.adam.ema_decay is not None:
            average = {name: torch.zeros_like(p) for name, p in _weights(sae).items()}
        adam = RowAdam(sae, config.adam, latents)
        return cls(sae, adam, 0, since, average=average, rows=rows, latents=latents)

    def dead(self, config: TrainConfig) -> Tensor:
        """Latents that have not fired for the window, bool (n_latents,)."""
        return self.tokens_since_fired > config.dead_window

    def dead_fraction(self, config: TrainConfig) -> float:
        """Share of dead latents in the whole dictionary; all processes ask."""
        n_dead = self.latents.total(int(self.dead(config).sum()))
        return n_dead / self.sae.config.n_latents

    @torch.no_grad()
    def finished(self, config: TrainConfig) -> SAE:
        """The SAE as it is now, or the mean of its weights over time; unit rows are unit again."""
        decay = config.adam.ema_decay
        if self.average is None or decay is None or self.n_steps_done == 0:
            return self.sae
        unbiased = 1 - decay**self.n_steps_done
        means = {name: total / unbiased for name, total in self.average.items()}
        twin = self.sae.with_tensors(self.sae.state_dict() | means)
        if twin.unit_norm_decoder:
            twin.W_dec.div_(twin.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))
        return twin


class StepReport(NamedTuple):
    """Figures of one step, still on the device: scalars."""

    loss: Float[Tensor, ""]
    fvu: Float[Tensor, ""]
    l0: Float[Tensor, ""]
    lr: float


def step(
    state: TrainState,
    x: Float[Tensor, "n d_in"],
    config: TrainConfig,
    scales: Scales,
    *,
    target: Float[Tensor, "n d_out"] | None = None,
) -> StepReport:
    """Take one optimiser step on a batch in raw activation units; changes `state` in place."""
    sae = state.sae
    if config.compute_dtype == "mixed" and sae.takes_compute_dtype and not state.shadows:
        state.shadows = {name: getattr(sae, name).detach().bfloat16() for name in _SHADOWED}
    lr = config.lr_at(state.n_steps_done, sae.config.n_latents)
    loss, gradients = sae.gradients(
        scales.inputs(x),
        _objective(state, config, scales),
        target=None if target is None else scales.outputs(target),
        scratch=state.scratch,
    )
    state.optimizer.step(sae, gradients, lr=lr, shadows=state.shadows)
    sae.constrain()
    _remember(state, loss, config, n_tokens=len(x))
    return StepReport(loss.total, loss.fvu, loss.n_active / max(len(x), 1), lr)


def _objective(state: TrainState, config: TrainConfig, scales: Scales) -> Objective:
    done = state.n_steps_done
    k = getattr(state.sae.config, "k", None)
    return Objective(
        variance=scales.variance,
        dead=state.dead(config)
        if config.aux_coefficient > 0 and _any_dead(state, config)
        else None,
        k_aux=config.k_aux,
        aux_coefficient=config.aux_coefficient,
        k=None if k is None else config.k_at(done, k),
        sparsity=state.sparsity * config.sparsity_at(done),
        draw=config.seed * config.n_steps + done,
        hint=state.hint,
        compute_dtype=_COMPUTE[config.compute_dtype],
        shadows=state.shadows,
        rows=state.rows,
        latents=state.latents,
    )


def _remember(state: TrainState, loss: Loss, config: TrainConfig, *, n_tokens: int) -> None:
    """Take in what a step showed: who fired, at which threshold, how sparse; average weights."""
    state.tokens_since_fired += n_tokens
    state.tokens_since_fired.masked_fill_(loss.counts > 0, 0)
    if state.sae.calibrated_l0 is not None:  # others have no use for it, and to read it waits
        _remember_threshold(state, float(loss.lowest))
    wanted = state.sae.target_l0
    if wanted is not None and config.sparsity_at(state.n_steps_done) == 1.0:
        rate = min(max(_CONTROL_PER_RUN / config.n_steps, _CONTROL_PER_STEP), 0.03)
        off = math.log(max(float(loss.n_active), 1e-6) / (wanted * max(n_tokens, 1)))
        state.sparsity *= math.exp(rate * min(max(off, -1.0), 1.0))
    if state.average is not None and config.adam.ema_decay is not None:
        decay = config.adam.ema_decay
        for name, weight in _weights(state.sae).items():
            state.average[name].mul_(decay).add_(weight, alpha=1 - decay)
    state.n_steps_done += 1


def _remember_threshold(state: TrainState, lowest: float) -> None:
    state.hint = lowest if lowest < float("inf") else None
    if state.hint is not None:
        held = state.hint if state.threshold_ema is None else state.threshold_ema
        state.threshold_ema = _THRESHOLD_MEMORY * held + (1 - _THRESHOLD_MEMORY) * state.hint


def _any_dead(state: TrainState, config: TrainConfig) -> bool:
    """Whether the run is long enough for a dead latent; to ask the device would wait for it."""
    return state.n_steps_done * config.batch_tokens > config.dead_window


def _weights(sae: SAE) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in sae.named_parameters()}
