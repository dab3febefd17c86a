"""The formulas of other tools' SAEs, as proofs use them: float64, dense, chunked, without our code.

A dialect writes the formula of the file it reads from these pieces and from the file's own tensors.
Nothing here comes from `saetools.sae`, so a proof compares two independent computations.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Fired", "Formula", "Reading", "gated", "jump", "linear", "relu", "top_k"]

_CHUNK_BYTES = 64 * 2**20  # of a weight matrix in float64


class Fired(NamedTuple):
    """What a selection rule leaves of pre-activations, and how sure it was of each.

    margin is the distance of a pre-activation from the value at which its latent would switch, as a
    fraction of the token's largest pre-activation: rounding can turn over what lies close to zero.
    """

    latents: Float[Tensor, "n n_latents"]
    margin: Float[Tensor, "n n_latents"]


class Reading(NamedTuple):
    """What an SAE makes of tokens: its latents, how sure each is, and the reconstruction."""

    latents: Float[Tensor, "n n_latents"]
    margin: Float[Tensor, "n n_latents"]
    x_hat: Float[Tensor, "n d_out"]


Formula = Callable[[Tensor], Reading]
"""From tokens (n, d_in) in float64 to what the original makes of them."""


def linear(
    x: Float[Tensor, "n m"], weight: Float[Tensor, "m p"], bias: Tensor | None = None
) -> Float[Tensor, "n p"]:
    """x @ weight + bias in float64; `weight` may be of any dtype and is cast a chunk at a time."""
    out = x.new_empty(len(x), weight.shape[1], dtype=torch.float64)
    for start, stop in _chunks(weight.shape[1], rows=weight.shape[0]):
        out[:, start:stop] = x.double() @ weight[:, start:stop].double()
    return out if bias is None else out + bias.double()


def relu(pre_acts: Float[Tensor, "n n_latents"]) -> Fired:
    """Every positive pre-activation."""
    return jump(pre_acts, torch.zeros((), dtype=pre_acts.dtype))


def jump(pre_acts: Float[Tensor, "n n_latents"], threshold: Tensor) -> Fired:
    """Every pre-activation above zero and above its threshold (one number, or one a latent)."""
    floor = threshold.double().clamp_min(0)
    latents = torch.where(pre_acts > floor, pre_acts, torch.zeros_like(pre_acts))
    return Fired(latents, (pre_acts - floor).abs_() / _scale(pre_acts))


def top_k(pre_acts: Float[Tensor, "n n_latents"], k: int) -> Fired:
    """The k largest positive pre-activations of each token."""
    n_latents = pre_acts.shape[1]
    best = pre_acts.topk(min(k + 1, n_latents), dim=1)
    last = best.values[:, min(k, n_latents) - 1 :][:, :1].clamp_min(0)
    first_out = best.values[:, k : k + 1] if k < n_latents else torch.zeros_like(last)
    on = torch.zeros_like(pre_acts, dtype=torch.bool)
    on.scatter_(1, best.indices[:, :k], True)
    on &= pre_acts > 0
    margin = torch.where(on, pre_acts - first_out.clamp_min(0), last - pre_acts).abs_()
    return Fired(torch.where(on, pre_acts, 0.0), margin / _scale(pre_acts))


def gated(gate: Float[Tensor, "n n_latents"], magnitude: Float[Tensor, "n n_latents"]) -> Fired:
    """The magnitude of every latent whose gate is open, where it is positive."""
    on = (gate > 0) & (magnitude > 0)
    margin = torch.minimum(gate.abs() / _scale(gate), magnitude.abs() / _scale(magnitude))
    return Fired(torch.where(on, magnitude, 0.0), margin)


def _scale(pre_acts: Tensor) -> Tensor:
    return pre_acts.abs().amax(dim=1, keepdim=True).clamp_min(1e-30)


def _chunks(n: int, *, rows: int) -> Iterator[tuple[int, int]]:
    size = max(1, _CHUNK_BYTES // (8 * max(rows, 1)))
    for start in range(0, n, size):
        yield start, min(start + size, n)
