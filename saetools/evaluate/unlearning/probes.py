"""Small classifiers on activations: logistic, and with one hidden layer.

Each row may belong to some of the classes only (the values of its attribute), and the softmax runs
over those. With attributes that share no class this is one probe an attribute, fitted at once.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saetools.repro import generator

__all__ = ["Probe", "ProbeKind", "ProbeRows", "fit_probe"]

ProbeKind = Literal["logistic", "mlp"]

Objective = Callable[[], Tensor]

_MLP_STEPS, _MLP_LR = 100, 2e-2


class ProbeRows(NamedTuple):
    """Activations with the class of each row, and the classes that it might have had."""

    x: Float[Tensor, "n d_in"]
    y: Int[Tensor, " n"]
    allowed: Bool[Tensor, "n n_classes"]


class Probe(NamedTuple):
    """A fitted classifier that standardises its input."""

    mean: Tensor
    scale: Tensor
    network: nn.Module

    def predict(self, x: Float[Tensor, "n d_in"], allowed: Bool[Tensor, "n c"]) -> Tensor:
        """The most probable of the allowed classes, (n,)."""
        with torch.no_grad():
            scores: Tensor = self.network((x.float() - self.mean) / self.scale)
            return scores.masked_fill(~allowed, -torch.inf).argmax(-1)


def fit_probe(
    rows: ProbeRows, kind: ProbeKind, *, n_hidden: int, penalty: float, seed: int
) -> Probe:
    """Fit a probe: mean cross-entropy + penalty · (sum of squared weights, biases left out).

    The logistic probe is convex and is solved by L-BFGS; the MLP takes 100 steps of Adam over all
    rows.
    """
    x = rows.x.float()
    mean, scale = x.mean(0), x.std(0, correction=0).clamp_min(1e-6)
    d_in, n_classes = x.shape[1], rows.allowed.shape[1]
    network: nn.Module = nn.Linear(d_in, n_classes)
    if kind == "mlp":
        network = nn.Sequential(
            nn.Linear(d_in, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_classes)
        )
    _start(network, seed)
    network = network.to(x.device)
    standard = (x - mean) / scale

    def objective() -> Tensor:
        scores = network(standard).masked_fill(~rows.allowed, -torch.inf)
        weights = [w for w in network.parameters() if w.ndim == 2]
        size = torch.stack([w.square().sum() for w in weights]).sum()
        return nn.functional.cross_entropy(scores, rows.y) + penalty * size

    with torch.enable_grad():
        (_solve if kind == "logistic" else _descend)(network, objective)
    return Probe(mean, scale, network)


def _start(network: nn.Module, seed: int) -> None:
    """Weights from the seed; the logistic probe starts at 0."""
    source = generator(seed, "probe")
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 2 and isinstance(network, nn.Sequential):
                weight.copy_(torch.randn(weight.shape, generator=source) / weight.shape[1] ** 0.5)
            else:
                weight.zero_()


def _solve(network: nn.Module, objective: Objective) -> None:
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=100, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def _descend(network: nn.Module, objective: Objective) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=_MLP_LR)
    for _ in range(_MLP_STEPS):
        optimizer.zero_grad()
        objective().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
