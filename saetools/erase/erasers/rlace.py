"""R-LACE: the orthogonal projection of a given rank under which the best linear probe does worst.

    min over θ  max over P   loss(y, θᵀ (I − P) x)      0 ≼ P ≼ I, tr P = rank

A game on the Fantope: a gradient step up in P, which is made symmetric and projected back by its
eigenvalues, and a step down in θ. Every so often P is rounded to its first eigenvectors and a fresh
logistic regression is fitted; the P with the largest such loss is kept. Ravfogel et al. 2022
(arXiv:2201.12091). Rows are divided by their RMS, so step sizes hold for every model; the
projection is about the mean, which no linear probe can tell from theirs about zero.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types
from torch import Tensor

from saetools import progress
from saetools.erase.base import ERASERS, Learned
from saetools.erase.linear import LinearConfig, LinearEraser, level_rows
from saetools.erase.rows import LabelledRows
from saetools.repro import generator
from saetools.sae import SAE

__all__ = ["Rlace", "RlaceConfig", "to_fantope"]

_PROBE_ROWS = 4000


class RlaceConfig(LinearConfig):
    """The paper takes up to 75,000 steps of batches of 128; far fewer do at these step sizes."""

    rank: int = Field(default=1, ge=1, description="dimensions to take out")
    n_steps: int = Field(default=400, ge=1, description="steps of both players at most")
    batch_rows: int = Field(default=512, ge=2, description="rows of a step")
    lr: float = Field(default=0.1, gt=0, description="length of a step of P, falling to zero")
    probe_lr: float = Field(default=0.02, gt=0, description="learning rate of the probe (Adam)")
    check_every: int = Field(default=50, ge=1, description="steps between fresh probes")
    margin: float = Field(
        default=0.0015, ge=0, description="stop when a fresh probe is so close to the majority"
    )
    seed: int = Field(default=0, description="of the batches and the probe's start")


@ERASERS.register("rlace")
class Rlace(LinearEraser):
    """Finds the projection by playing against a probe."""

    Config = RlaceConfig

    @classmethod
    def learn(cls, rows: LabelledRows, config: Any, sae: SAE | None) -> Learned:  # noqa: ARG003
        """Play, keep the best projection."""
        rows = level_rows(rows, config)
        mean = rows.x.double().mean(0)
        x = rows.x.double() - mean
        x = (x / x.square().mean().sqrt()).float()
        majority = float(torch.bincount(rows.labels).max()) / len(x)
        best, history = _play(x, rows.labels, config, majority)
        evidence = tuple(
            {"step": check.step, "probe_accuracy": check.accuracy, "probe_loss": check.loss}
            for check in sorted(history, key=lambda check: -check.loss)
        )
        tensors = {"mean": mean, "left": best.basis, "right": best.basis.T.contiguous()}
        figures = {
            "rank": config.rank,
            "majority": majority,
            "accuracy of a fresh probe on the fit": best.accuracy,
        }
        return Learned(tensors, evidence, {"margin": config.margin}, figures=figures)


class _Check(NamedTuple):
    step: int
    loss: float
    accuracy: float
    basis: Float[Tensor, "d rank"]


def _play(
    x: Float[Tensor, "n d"], y: Int[Tensor, " n"], config: RlaceConfig, majority: float
) -> tuple[_Check, list[_Check]]:
    """The best rounded projection, and all that were checked."""
    source = generator(config.seed, "rlace")
    d, n_classes = x.shape[1], int(y.max()) + 1
    taken = torch.eye(d) * (config.rank / d)  # the middle of the Fantope
    probe = torch.nn.Linear(d, n_classes)
    with torch.no_grad():
        probe.weight.copy_(0.01 * torch.randn(n_classes, d, generator=source))
        probe.bias.zero_()
    optimizer = torch.optim.Adam(probe.parameters(), lr=config.probe_lr)
    checks: list[_Check] = []
    with progress.task("rlace", total=config.n_steps, unit="steps") as task:
        for step in range(1, config.n_steps + 1):
            size = config.lr * (1 - (step - 1) / config.n_steps)
            taken = _round(x, y, taken, probe, optimizer, source, size, config)
            task.advance(1)
            if step % config.check_every == 0 or step == config.n_steps:
                checks.append(_check(step, x, y, taken, config.rank))
                if abs(checks[-1].accuracy - majority) < config.margin:
                    break
    return max(checks, key=lambda check: check.loss), checks


def _round(
    x: Tensor,
    y: Tensor,
    taken: Tensor,
    probe: torch.nn.Linear,
    optimizer: torch.optim.Optimizer,
    source: torch.Generator,
    size: float,
    config: RlaceConfig,
) -> Tensor:
    """One step of the projection, then one of the probe; the new projection."""
    loss_of = torch.nn.functional.cross_entropy
    with torch.enable_grad():
        batch = torch.randint(len(x), (config.batch_rows,), generator=source)
        taken = taken.clone().requires_grad_(True)
        loss = loss_of(probe(x[batch] - x[batch] @ taken), y[batch])
        (gradient,) = torch.autograd.grad(loss, [taken])
        with torch.no_grad():
            # Steps of one length: the gradient shrinks as the probe's weights do.
            step = gradient + gradient.T
            moved = taken + size * step / step.norm().clamp_min(1e-12)
        taken = to_fantope(moved, config.rank)
        batch = torch.randint(len(x), (config.batch_rows,), generator=source)
        optimizer.zero_grad()
        loss_of(probe(x[batch] - x[batch] @ taken), y[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return taken


def to_fantope(matrix: Float[Tensor, "d d"], rank: int) -> Float[Tensor, "d d"]:
    """The nearest symmetric matrix with eigenvalues in [0, 1] that sum to `rank`.

    Eigenvalues become clip(λ − θ, 0, 1), θ by bisection.
    """
    values, vectors = torch.linalg.eigh((matrix + matrix.T).detach() / 2)
    low, high = values.min() - 1, values.max()
    for _ in range(60):
        middle = (low + high) / 2
        if float((values - middle).clamp(0, 1).sum()) > rank:
            low = middle
        else:
            high = middle
    nearest: Tensor = vectors * (values - (low + high) / 2).clamp(0, 1) @ vectors.T
    return nearest


def _check(step: int, x: Tensor, y: Tensor, taken: Tensor, rank: int) -> _Check:
    """Round the projection and fit a fresh probe on what it leaves."""
    basis = torch.linalg.eigh(taken.double())[1][:, -rank:]  # (d, rank)
    chosen = torch.linspace(0, len(x) - 1, min(len(x), _PROBE_ROWS)).long()
    rows, labels = x[chosen].double(), y[chosen].numpy()
    left = (rows - rows @ basis @ basis.T).numpy()
    with threadpool_limits(1):  # so small a fit only waits for more threads
        probe = LogisticRegression(C=1.0, max_iter=200).fit(left, labels)
        chances = probe.predict_proba(left)
    loss = float(log_loss(labels, chances, labels=probe.classes_))
    accuracy = float(np.mean(probe.predict(left) == labels))
    return _Check(step, loss, accuracy, basis)
