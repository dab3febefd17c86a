"""Settings of a training run."""

import math

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["TrainConfig"]


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
        description="Adam's step size at its height; None: 2e-4 · sqrt(16384 / n_latents), capped "
        "below at 1e-3 for runs under 10 M tokens",
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
    seed: int = Field(default=0, description="of the order of the data")

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

    def peak_lr(self, n_latents: int) -> float:
        """Adam's step size at its height for a dictionary of `n_latents`."""
        if self.lr is not None:
            return self.lr
        rule = 2e-4 * math.sqrt(16_384 / n_latents)
        return rule if self.n_tokens >= 10_000_000 else max(rule, 1e-3)

    def lr_at(self, step: int, n_latents: int) -> float:
        """Step size of step `step`, counted from 0: linear rise, level, linear fall."""
        warm = self.warmup_fraction * self.n_steps
        fall = self.decay_fraction * self.n_steps
        rising = (step + 1) / warm if step < warm else 1.0
        falling = (self.n_steps - step) / (fall + 1)
        return self.peak_lr(n_latents) * min(rising, falling, 1.0)
