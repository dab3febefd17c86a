"""How a concept is read: by a linear probe on activations, by one latent, and by a few latents.

All three are fitted on rows that are not measured on.

- the probe: logistic regression on x;
- the main latent: the one whose firing has the best F1 for the concept;
- the split latents: logistic regression with an L1 penalty ranks latents, and the best k of them
  are read by a logistic regression of their own, k = 1, 2, ... as long as one more raises F1 by
  more than 0.03, at most 10. Their number is the concept's feature splitting.
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import Tensor

from saetools.evaluate.absorption.formulas import absorbed
from saetools.intervene.base import activations_of
from saetools.repro import generator
from saetools.types import SparseLatents

__all__ = ["ItemTable", "Reading", "fit_reading", "main_latent", "split_latents"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_JUMP = 0.03
_MAX_SPLIT = 10
_CANDIDATES = 128
_EPOCHS, _BATCH, _DECAY, _LR = 50, 4096, 0.01, 0.01


class ItemTable(NamedTuple):
    """Tokens on which a concept is on, all (n,): does the probe see it, what do latents make of it.

    `full` and `fraction` count where `right` is True; `hole` says that the main latent is silent.
    """

    right: Bools
    full: Bools
    fraction: Floats
    hole: Bools


@dataclass(frozen=True)
class Reading:
    """A concept's probe and latents.

    Args:
        direction: of the probe, on activations divided by `scale`.
        bias: what is added to the product.
        scale: root mean square of the fitted rows' entries.
        main: the latent whose firing has the best F1.
        split: the latents that stand for the concept, best first.
    """

    direction: Float[Tensor, " d_in"]
    bias: float
    scale: float
    main: int
    split: Int[Tensor, " s"]

    def scores(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, " n"]:
        """Score of each row by the probe; above 0 it says that the concept is on."""
        return (x / self.scale) @ self.direction.to(x.device) + self.bias

    def items(
        self, x: Float[Tensor, "n d_in"], latents: SparseLatents, W_dec: Float[Tensor, "m d_in"]
    ) -> ItemTable:
        """What becomes of tokens on which the concept is on."""
        found = absorbed(
            x,
            latents,
            probe=self.direction.to(x.device),
            W_dec=W_dec,
            split=self.split.to(x.device),
        )
        main = torch.tensor([self.main], device=x.device)
        return ItemTable(
            (self.scores(x) > 0).cpu().numpy(),
            found.full.cpu().numpy(),
            found.fraction.double().cpu().numpy(),
            (latents.of(main).squeeze(1) == 0).cpu().numpy(),
        )


def fit_reading(
    x: Float[Tensor, "n d_in"], latents: SparseLatents, on: Bools, *, seed: int
) -> Reading:
    """Fit the probe, the main latent and the split latents of a concept.

    Args:
        x: rows to fit on, some with the concept and some without.
        latents: their latents.
        on: where the concept is on, (n,).
    """
    scale = float(x.square().mean().sqrt().clamp_min(1e-12))
    probe = _logistic((x / scale).cpu().numpy(), on, balanced=False)
    return Reading(
        direction=torch.as_tensor(probe.coef_[0], dtype=torch.float32),
        bias=float(probe.intercept_[0]),
        scale=scale,
        main=main_latent(latents, on),
        split=split_latents(latents, on, seed=seed),
    )


def main_latent(latents: SparseLatents, on: Bools) -> int:
    """The latent whose firing has the best F1 for the concept; the first of equal ones."""
    fires = latents.active
    is_on = torch.as_tensor(on, device=fires.device).unsqueeze(1)
    both = torch.bincount(latents.indices[fires & is_on], minlength=latents.n_latents)
    fired = torch.bincount(latents.indices[fires], minlength=latents.n_latents)
    f1 = 2 * both.double() / (fired + int(on.sum())).clamp_min(1)
    return int(f1.argmax())


def split_latents(latents: SparseLatents, on: Bools, *, seed: int) -> Int[Tensor, " s"]:
    """The smallest set of latents to which one more adds no more than 0.03 of F1."""
    candidates = _candidates(latents, on)
    table, _ = activations_of(latents, candidates)  # (n, c)
    order = _l1_order(table, on, seed=seed)
    values = table[:, order[:_MAX_SPLIT]].cpu().numpy()
    k, f1 = 1, _f1(values[:, :1], on)
    while k < values.shape[1]:
        better = _f1(values[:, : k + 1], on)
        if better - f1 <= _JUMP:
            break
        k, f1 = k + 1, better
    return candidates[order[:k]].cpu()


def _candidates(latents: SparseLatents, on: Bools) -> Int[Tensor, " c"]:
    """Latents whose mean activation differs most with the concept; the penalty ranks among them.

    A dense table of all latents would not fit in memory.
    """
    is_on = torch.as_tensor(on, device=latents.values.device)
    total = latents.values.new_zeros(2, latents.n_latents, dtype=torch.float64)
    for side, rows in enumerate((~is_on, is_on)):
        values, indices = latents.values[rows].double(), latents.indices[rows]
        total[side].index_add_(0, indices.flatten(), values.flatten())
        total[side] /= max(len(values), 1)
    gap = (total[1] - total[0]).abs()
    return gap.topk(min(_CANDIDATES, latents.n_latents)).indices


def _l1_order(table: Float[Tensor, "n c"], on: Bools, *, seed: int) -> Int[Tensor, " c"]:
    """Columns by their weight in a logistic regression with an L1 penalty, greatest first.

    All columns are divided by one number, so that the penalty does not depend on units.
    """
    columns = table / table.square().mean().sqrt().clamp_min(1e-12)
    y = torch.as_tensor(on, dtype=torch.float32, device=table.device)
    weight = torch.zeros(table.shape[1], device=table.device, requires_grad=True)
    bias = torch.zeros(1, device=table.device, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=_LR)
    g = generator(seed, "l1 probe")
    with torch.enable_grad():
        for _ in range(_EPOCHS):
            shuffled = torch.randperm(len(y), generator=g).to(table.device)
            for start in range(0, len(y), _BATCH):
                rows = shuffled[start : start + _BATCH]
                optimizer.zero_grad()
                score = columns[rows] @ weight + bias
                loss = torch.nn.functional.binary_cross_entropy_with_logits(score, y[rows])
                (loss + _DECAY * weight.abs().sum()).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return weight.detach().argsort(descending=True, stable=True)


def _f1(values: npt.NDArray[np.float32], on: Bools) -> float:
    scale = max(float(np.sqrt(np.square(values).mean())), 1e-12)
    probe = _logistic(values / scale, on, balanced=True)
    return float(f1_score(on, probe.predict(values / scale), zero_division=0))


def _logistic(x: npt.NDArray[np.float32], on: Bools, *, balanced: bool) -> LogisticRegression:
    probe = LogisticRegression(max_iter=1000, class_weight="balanced" if balanced else None)
    with warnings.catch_warnings():
        # A probe that has not quite converged is still a probe; its F1 on other rows is checked.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return probe.fit(x, on)
