"""The one loop of the methods that train: a loss of a forget and a retain batch, and AdamW."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from saetools import progress
from saetools.errors import ConfigError
from saetools.unlearn.base import Job, Material, MethodConfig
from saetools.unlearn.plan import Plan
from saetools.unlearn.rows import Batch, batches
from saetools.unlearn.sites import block_weights

__all__ = ["LossOf", "TrainedConfig", "plan_of_training", "train_weights"]

LossOf = Callable[[Batch, Batch], Mapping[str, Tensor]]
"""Losses by name of a forget batch and a retain batch; "total" is what is minimised."""


class TrainedConfig(MethodConfig):
    """Settings of every method that trains."""

    lr: float = Field(default=1e-5, gt=0, description="learning rate of AdamW")
    n_steps: int = Field(default=100, ge=1, description="steps")
    batch_size: int = Field(default=16, ge=1, description="rows of each set in a step")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are cut to this norm")
    layers: tuple[int, ...] | None = Field(
        default=None, description="blocks to train; all weights of the model by default"
    )


def plan_of_training(
    material: Material, config: TrainedConfig, *, method: str, steps: Sequence[str]
) -> Plan:
    """A plan of training whose only choice is which weights to train."""
    return Plan(
        method,
        tuple(steps),
        tuple(block_weights(material.model, config.layers)),
        facts={
            "forget rows": len(material.forget),
            "retain rows": len(material.retain),
            "steps": config.n_steps,
            "learning rate": config.lr,
        },
    )


def train_weights(
    job: Job,
    loss_of: LossOf,
    config: TrainedConfig,
    *,
    weights: Sequence[nn.Parameter] | None = None,
) -> tuple[Mapping[str, float], ...]:
    """Train weights of the edited model in place; by default those of `config.layers`.

    Raises:
        ConfigError: a loss is no longer finite, or depends on no weight that is trained.
    """
    material = job.material
    if weights is None:
        weights = list(block_weights(job.edited, config.layers).values())
    _only(job.edited.hf, weights)
    size = config.batch_size
    streams = [
        batches(job.edited, rows, size=size, seed=material.seed, stream=i)
        for i, rows in enumerate((material.forget, material.retain))
    ]
    optimizer = torch.optim.AdamW(weights, lr=config.lr, weight_decay=0.0)
    losses = []
    with progress.task(job.plan.method, total=config.n_steps, unit="steps") as task:
        for step in range(1, config.n_steps + 1):
            with torch.enable_grad():
                found = loss_of(next(streams[0]), next(streams[1]))
                figures = {name: float(value.detach()) for name, value in found.items()}
                _check(figures, step)
                optimizer.zero_grad(set_to_none=True)
                if found["total"].requires_grad:  # a loss may be at its floor, without a gradient
                    torch.autograd.backward(found["total"])
            torch.nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
            optimizer.step()
            losses.append(figures)
            task.note(**figures)
            task.advance()
    optimizer.zero_grad(set_to_none=True)
    return tuple(losses)


def _only(hf: nn.Module, weights: Sequence[nn.Parameter]) -> None:
    for parameter in hf.parameters():
        parameter.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)


def _check(figures: Mapping[str, float], step: int) -> None:
    wrong: dict[str, Any] = {n: v for n, v in figures.items() if v != v or abs(v) == float("inf")}
    if wrong:
        raise ConfigError(
            f"at step {step} the loss is {next(iter(wrong.values()))} ({', '.join(wrong)}): the "
            "training has diverged; lower lr or n_steps"
        )
