"""Settings of a training run."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["AdamConfig", "AnnealConfig", "TrainConfig"]

_WATCHING = {"log_tokens", "log_to", "checkpoint_tokens", "parallel"}


class AdamConfig(BaseModel):
    """The optimiser; its step size is `train.lr`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the first moment")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="decay of the second moment")
    eps: float = Field(
        default=6.25e-10,
        gt=0,
        description="added to the root of the second moment; small, as the loss is a fraction",
    )
    max_grad_norm: float | None = Field(
        default=None,
        gt=0,
        description="clip the norm of all gradients together; null: off. Costs a second pass over "
        "the active latents",
    )
    moments: Literal["float32", "bfloat16"] = Field(
        default="float32", description="precision of the moments of both matrices"
    )
    lazy: bool = Field(
        default=False,
        description="latents that do not fire in a batch keep their weights and moments; Adam "
        "itself lets their moments decay and move them",
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="the finished SAE is a running mean of the weights, e.g. 0.999; null: the last "
        "weights",
    )


class AnnealConfig(BaseModel):
    """What changes in the first part of a run, besides the step size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k_from: int | None = Field(
        default=None, ge=1, description="k at the start, falling or rising to sae.k; null: sae.k"
    )
    k_fraction: float = Field(
        default=0.1, gt=0, le=1, description="share of the run in which k goes from k_from to sae.k"
    )
    sparsity_fraction: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="share of the run in which the sparsity term of an architecture that has one "
        "rises from 0",
    )


class TrainConfig(BaseModel):
    """How an SAE is trained; lengths are in tokens.

    The defaults give a good SAE on a few million tokens without tuning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_tokens: int = Field(
        default=2_000_000, ge=1, description="length in tokens; the store is read again as needed"
    )
    batch_tokens: int = Field(default=4096, ge=1, description="tokens a step")
    lr: float | None = Field(
        default=None,
        gt=0,
        description="Adam's step size at its height; None: 2e-4 · sqrt(16384 / n_latents); for "
        "runs under 10 M tokens, which do not get far otherwise, ten times that and at most 3e-3",
    )
    warmup_fraction: float = Field(
        default=0.05, ge=0, le=1, description="share of the run in which lr rises from 0"
    )
    decay_fraction: float = Field(
        default=0.2, ge=0, le=1, description="share of the run, at its end, in which lr falls to 0"
    )
    aux_coefficient: float = Field(
        default=1 / 32, ge=0, description="weight of AuxK, which revives dead latents; 0: off"
    )
    k_aux: int | None = Field(
        default=None, ge=1, description="dead latents a token may use in AuxK; None: d_in / 2"
    )
    dead_after_tokens: int | None = Field(
        default=None,
        ge=1,
        description="a latent is dead after this many tokens without firing; None: 10 M, or a "
        "tenth of the run if that is less",
    )
    normalize: Literal["scale", "mean", "whiten", "none"] = Field(
        default="scale",
        description="what is done to activations and folded into the finished weights; scale: one "
        "number, so that mean ‖x‖² = d_in; mean: the mean removed first; whiten: also made "
        "uncorrelated; none: nothing",
    )
    compute_dtype: Literal["float32", "bfloat16", "mixed"] = Field(
        default="float32",
        description="bfloat16: that of the encoder product that selects latents, while kept "
        "values, gradients and weights stay float32; several times faster where the device has it. "
        "mixed, for GPUs: all reads of weights, inputs and residuals are bfloat16 too; weights, "
        "moments and sums stay float32",
    )
    adam: AdamConfig = Field(default=AdamConfig(), description="the optimiser")
    anneal: AnnealConfig = Field(default=AnnealConfig(), description="k and sparsity at the start")
    log_tokens: int = Field(
        default=65_536, ge=1, description="a row of metrics every so many tokens"
    )
    log_to: tuple[str, ...] = Field(
        default=(),
        description="where rows of metrics go beside metrics.jsonl and metrics.csv: tensorboard, "
        "wandb; changes no number of the training",
    )
    checkpoint_tokens: int = Field(
        default=1_000_000, ge=1, description="a checkpoint every so many tokens"
    )
    parallel: Literal["data", "latents"] = Field(
        default="data",
        description="what the processes share that torchrun starts; data: the rows of each batch, "
        "every process holds the whole SAE; latents: the dictionary, every process holds a slice",
    )
    seed: int = Field(default=0, description="of the order of the data")
    init_seed: int | None = Field(
        default=None,
        ge=0,
        description="of the weights that `saetools train` starts from; null: the run's seed",
    )

    @model_validator(mode="after")
    def _phases_fit(self) -> "TrainConfig":
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                f"warmup_fraction ({self.warmup_fraction}) and decay_fraction "
                f"({self.decay_fraction}) together must not pass 1"
            )
        return self

    @property
    def n_steps(self) -> int:
        """Number of optimiser steps: n_tokens over batch_tokens, rounded up."""
        return -(-self.n_tokens // self.batch_tokens)

    @property
    def dead_window(self) -> int:
        """Tokens without firing after which a latent counts as dead."""
        return self.dead_after_tokens or max(1, min(10_000_000, self.n_tokens // 10))

    @property
    def identity(self) -> dict[str, object]:
        """The settings that decide the weights; how training is watched or shared does not."""
        return self.model_dump(mode="json", exclude=_WATCHING)

    def peak_lr(self, n_latents: int) -> float:
        """Adam's step size at its height for a dictionary of `n_latents`."""
        if self.lr is not None:
            return self.lr
        rule = 2e-4 * math.sqrt(16_384 / n_latents)
        return rule if self.n_tokens >= 10_000_000 else max(rule, min(10 * rule, 3e-3))

    def lr_at(self, step: int, n_latents: int) -> float:
        """Step size of step `step`, counted from 0: linear rise, level, linear fall."""
        warm = self.warmup_fraction * self.n_steps
        fall = self.decay_fraction * self.n_steps
        rising = (step + 1) / warm if step < warm else 1.0
        falling = (self.n_steps - step) / (fall + 1)
        return self.peak_lr(n_latents) * min(rising, falling, 1.0)

    def k_at(self, step: int, k: int) -> int:
        """Active latents a token in step `step` of an SAE with `k` of them."""
        start, steps = self.anneal.k_from, self.anneal.k_fraction * self.n_steps
        if start is None or step >= steps:
            return k
        return round(start + (k - start) * step / steps)

    def sparsity_at(self, step: int) -> float:
        """Factor on the sparsity term in step `step`, from 0 to 1."""
        steps = self.anneal.sparsity_fraction * self.n_steps
        return (step + 1) / steps if step + 1 < steps else 1.0
