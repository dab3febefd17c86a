"""Weights of any library in one form, and what they reach on held-out rows."""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from trainers.sizes import widths

__all__ = ["Weights", "evaluate"]

_AT_ONCE = 1024


class Weights(NamedTuple):
    """The one form that all weights are brought into; they read raw activations.

    latents = select((x - b_dec) W_enc + b_enc), x_hat = latents W_dec + b_dec
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: float | None

    @classmethod
    def read(cls, path: Path) -> "Weights":
        """What a worker wrote."""
        held = {name: torch.from_numpy(array) for name, array in np.load(path).items()}
        threshold = held.pop("threshold", None)
        return cls(**held, threshold=None if threshold is None else float(threshold))

    def chunks(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and their positive pre-activations, some rows at a time."""
        for part in x.split(_AT_ONCE):
            yield part, ((part - self.b_dec) @ self.W_enc + self.b_enc).relu()


@torch.no_grad()
def evaluate(weights: Weights, x: Tensor, k: int, *, per_token: bool) -> dict[str, Any]:
    """FVU and L0 at the library's threshold and at L0 = k, prefixes, latents that never fire."""
    if per_token:
        at_k: float | None = None
    else:
        values = torch.cat([acts[acts > 0] for _, acts in weights.chunks(x)])
        wanted = min(k * len(x), len(values))
        at_k = float(values.kthvalue(len(values) - wanted + 1).values)
    found = _errors(weights, x, k, at_k)
    own = found
    if not per_token:
        above = np.nextafter(np.float32(weights.threshold), np.float32("inf"))
        own = _errors(weights, x, k, float(above))
    return {
        "fvu": found["fvu"],
        "l0": found["l0"],
        "prefix_fvu": found["prefix_fvu"],
        "unused": found["unused"],
        "own_fvu": own["fvu"],
        "own_l0": own["l0"],
    }


def _errors(weights: Weights, x: Tensor, k: int, lowest: float | None) -> dict[str, Any]:
    """Sums over rows; latents from `lowest` up are active, or the k largest of a token."""
    edges = widths(len(weights.W_dec))
    errors, n_active = torch.zeros(len(edges), dtype=torch.float64), 0
    fired = torch.zeros(len(weights.W_dec), dtype=torch.bool)
    for part, acts in weights.chunks(x):
        if lowest is None:
            top = acts.topk(k, dim=1)
            latents = torch.zeros_like(acts).scatter_(1, top.indices, top.values)
        else:
            latents = acts * (acts >= lowest)
        n_active += int((latents > 0).sum())
        fired |= (latents > 0).any(0)
        x_hat, begin = weights.b_dec, 0
        for level, end in enumerate(edges):
            x_hat = x_hat + latents[:, begin:end] @ weights.W_dec[begin:end]
            errors[level] += float((part - x_hat).double().square().sum())
            begin = end
    fvu = (errors / (x - x.mean(0)).double().square().sum()).tolist()
    return {
        "fvu": fvu[-1],
        "prefix_fvu": statistics.mean(fvu),
        "l0": n_active / len(x),
        "unused": 1 - float(fired.float().mean()),
    }
