"""A whole training step of a TopK or Matryoshka SAE, in our ops and in plain dense PyTorch.

Both take the same state and batch and lower the same loss: the squared error of every prefix of the
dictionary, averaged over tokens and prefixes. One prefix is a plain TopK SAE. Weights and moments
are float32; on a GPU both compute in bfloat16. It is a training step without a training loop: no
data, schedule or dead latents.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from saetools_kernels import raw

__all__ = [
    "CHUNK_BYTES",
    "PARTS",
    "State",
    "dense_loss",
    "dense_step",
    "fresh_state",
    "our_step",
]

PARTS = ("W_enc", "b_enc", "W_dec", "b_dec")
CHUNK_BYTES = 64 * 2**20  # of pre-activations that exist at once
_LR, _EPS = 1e-3, 1e-8

Loss = Callable[..., Tensor]


@dataclass
class State:
    """Weights by name (both matrices latent-major), first and second moments, steps taken."""

    weights: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]
    shadows: dict[str, Tensor] = field(default_factory=dict)
    n_steps: int = 0


def fresh_state(d: int, n_latents: int, *, device: torch.device, seed: int = 0) -> State:
    """Return a decoder of unit rows, an encoder equal to it, and biases and moments of zero."""
    generator = torch.Generator(device).manual_seed(seed)
    W_dec = torch.randn(n_latents, d, generator=generator, device=device)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    biases = torch.zeros(n_latents, device=device), torch.zeros(d, device=device)
    weights = dict(zip(PARTS, (W_dec.clone(), biases[0], W_dec, biases[1]), strict=True))
    zeros = ({name: torch.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    shadows = {}
    if device.type == "cuda":
        shadows = {name: weights[name].bfloat16() for name in ("W_enc", "W_dec")}
    return State(weights, *zeros, shadows)


@torch.no_grad()
def our_step(
    state: State,
    x: Tensor,
    *,
    k: int,
    widths: tuple[int, ...],
    edges: Tensor | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Tensor:
    """Take a step with the ops of this package; returns the loss before it.

    Args:
        edges: `widths` without the last, on the device: to copy them there would wait for it.
    """
    w, n, n_levels = state.weights, len(x), len(widths)
    W_enc, W_dec = (state.shadows.get(name, w[name]) for name in ("W_enc", "W_dec"))
    centred = (x - w["b_dec"]).to(W_enc.dtype)
    top = _select(centred, W_enc, w["b_enc"].to(W_enc.dtype), k, chunk_bytes)
    values, latents = top.values.flatten(), top.indices.flatten()
    tokens = torch.arange(n * k, device=x.device).div_(k, rounding_mode="floor")
    if n_levels == 1:
        bags, bounds = tokens, torch.arange(0, n * k + 1, k, device=x.device)
    else:
        edges = torch.tensor(widths[:-1], device=x.device) if edges is None else edges
        bags = torch.bucketize(latents, edges, right=True).add_(tokens, alpha=n_levels)
        bounds = torch.searchsorted(bags, torch.arange(n * n_levels + 1, device=x.device))
    weight = 1 / (n * n_levels)
    weights = torch.full((n_levels,), weight, device=x.device)
    errors, sources, _, dots = raw.prefix_decode(values, latents, bounds, W_dec, centred, weights)
    d_values = torch.where(values > 0, dots, 0.0).mul_(-2)
    order = raw.order_by_latent(latents, len(W_dec))
    encoder = raw.row_sums(d_values, tokens, order, centred)
    d_bias = raw.sum_ordered(encoder.values, order.offsets)
    # Through the target, and through the input of the encoder.
    d_centre = sources[::n_levels].sum(0, dtype=torch.float32).mul_(-2)
    d_centre.sub_(d_bias.to(x.dtype) @ w["W_enc"])
    gradients = {
        "W_dec": raw.RowGradient((raw.row_sums(-2 * values, bags, order, sources),)),
        "W_enc": raw.RowGradient((encoder,)),
        "b_enc": raw.RowGradient(whole=d_bias.unsqueeze(0)),
        "b_dec": raw.RowGradient(whole=d_centre.unsqueeze(0)),
    }
    state.n_steps += 1
    for name, gradient in gradients.items():
        settings = raw.AdamSettings(_LR, state.n_steps, eps=_EPS, unit_rows=name == "W_dec")
        parts = [held[name] for held in (w, state.first, state.second)]
        parts = [part if part.ndim == 2 else part.unsqueeze(0) for part in parts]
        raw.fused_sparse_adam(*parts, gradient, settings, shadow=state.shadows.get(name))
    return weight * errors.sum()


def _select(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, chunk_bytes: int) -> raw.TopK:
    """Return the k largest of every row in order of latent, so that levels stand in order too."""
    n, n_latents = len(x), len(W_enc)
    rows = max(1, min(n, chunk_bytes // (n_latents * x.element_size())))
    pre_acts = x.new_empty(rows, n_latents)
    top = raw.TopK(x.new_empty(n, k), torch.empty(n, k, dtype=torch.int64, device=x.device))
    for start in range(0, n, rows):
        part = slice(start, min(start + rows, n))
        chunk = pre_acts[: part.stop - start]
        torch.addmm(b_enc, x[part], W_enc.T, out=chunk)
        raw.topk_rows(chunk, k, out=raw.TopK(top.values[part], top.indices[part]))
    return raw.TopK(top.values.relu_(), top.indices)


def dense_loss(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
    *,
    k: int,
    widths: tuple[int, ...],
) -> Tensor:
    """Return the same loss with dense activations (n, n_latents), as plain PyTorch writes it."""
    pre_acts = (x - b_dec) @ W_enc.T + b_enc
    top = pre_acts.topk(k, dim=1)
    acts = torch.zeros_like(pre_acts).scatter(1, top.indices, top.values.relu())
    target, total, start = x - b_dec, x.new_zeros(()), 0
    for stop in widths:
        target = target - acts[:, start:stop] @ W_dec[start:stop]
        total = total + target.float().square().sum()
        start = stop
    return total / (len(x) * len(widths))


def dense_step(
    state: State, x: Tensor, *, k: int, widths: tuple[int, ...], loss_of: Loss = dense_loss
) -> Tensor:
    """Take a step with autograd and torch's fused Adam; returns the loss before it."""
    leaves = {name: w.detach().requires_grad_() for name, w in state.weights.items()}
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=x.is_cuda):
        loss = loss_of(x, **leaves, k=k, widths=widths)
    grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    with torch.no_grad():
        W, grad = state.weights["W_dec"], grads["W_dec"]
        grads["W_dec"] = grad - (grad * W).sum(1, keepdim=True) * W
        held = [[part[name] for name in PARTS] for part in (state.weights, grads)]
        moments = [[part[name] for name in PARTS] for part in (state.first, state.second)]
        # torch counts the step before this call.
        counts = [torch.tensor(state.n_steps + 1.0, device=x.device) for _ in PARTS]
        torch._fused_adam_(
            *held,
            *moments,
            [],
            counts,
            lr=_LR,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=_EPS,
            amsgrad=False,
            maximize=False,
        )
        W /= W.norm(dim=1, keepdim=True).clamp_min_(1e-12)
    state.n_steps += 1
    return loss.detach()
