"""The training step that one writes first: dense PyTorch, autograd, torch.optim.Adam.

The variant "autocast" computes in bfloat16.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from sizes import Size, widths
from torch import Tensor

VERSIONS = {"torch": torch.__version__}


def stepper(arch: str, size: Size, variant: str, sample: Tensor) -> Callable[[Tensor], None]:
    """A full training step."""
    device = sample.device
    generator = torch.Generator(device).manual_seed(0)
    rows = torch.randn(size.n_latents, size.d_in, generator=generator, device=device)
    W_dec = torch.nn.Parameter(rows / rows.norm(dim=1, keepdim=True))
    W_enc = torch.nn.Parameter(W_dec.detach().clone())
    b_enc = torch.nn.Parameter(torch.zeros(size.n_latents, device=device))
    b_dec = torch.nn.Parameter(sample.mean(0))
    optimizer = torch.optim.Adam([W_dec, W_enc, b_enc, b_dec], lr=2e-4)
    edges = widths(size.n_latents) if arch == "matryoshka" else [size.n_latents]

    def loss(x: Tensor) -> Tensor:
        pre_acts = (x - b_dec) @ W_enc.T + b_enc
        latents = _selected(pre_acts, size.k, per_token=arch == "topk")
        x_hat, total = b_dec, x.new_zeros(())
        for start, stop in pairwise([0, *edges]):
            x_hat = x_hat + latents[:, start:stop] @ W_dec[start:stop]
            total = total + (x - x_hat).float().square().sum(1).mean()
        return total / len(edges)

    def run(x: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=variant == "autocast"):
            found = loss(x)
        found.backward()
        with torch.no_grad():
            assert W_dec.grad is not None
            W_dec.grad -= (W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec
        optimizer.step()
        with torch.no_grad():
            W_dec.div_(W_dec.norm(dim=1, keepdim=True))

    return run


def _selected(pre_acts: Tensor, k: int, *, per_token: bool) -> Tensor:
    """The pre-activations with all but the k largest a token (or k·n in all) set to zero."""
    rows = pre_acts if per_token else pre_acts.view(1, -1)
    top = rows.topk(k if per_token else k * len(pre_acts), dim=1, sorted=False)
    kept = torch.zeros_like(rows).scatter(1, top.indices, top.values.relu())
    return kept.view_as(pre_acts)
