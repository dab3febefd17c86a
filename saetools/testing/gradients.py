"""The promises about an SAE's loss: what it reports, and that its gradients are those of it."""

import copy

import torch
from torch import Tensor

from saetools.sae import SAE, Objective
from saetools.sae.objective import FIRED

__all__ = ["check_gradients"]


def check_gradients(sae: SAE, x: Tensor, target: Tensor) -> None:
    """Check `loss` and `gradients` on one batch, in float64, with a quarter of the latents dead."""
    sae, x, target = copy.deepcopy(sae).double().requires_grad_(True), x.double(), target.double()
    dead = torch.zeros(sae.config.n_latents, dtype=torch.bool)
    dead[::4] = True
    objective = Objective(float(sae.d_out), dead=dead, draw=5)
    # As trained ones are: no two rows equal, nothing at its start.
    for index, parameter in enumerate(sae.parameters()):
        generator = torch.Generator().manual_seed(index)
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.add_(noise, alpha=0.05)
    sae.constrain()
    loss = sae.loss(x, objective, target=target)
    wanted = dict(zip(_names(sae), _autograd(loss.total, sae), strict=True))
    found, gradients = sae.gradients(x, objective, target=target)
    _check_figures(sae, found, loss, n_tokens=len(x))
    for name, parameter in sae.named_parameters():
        assert name in gradients, f"gradients() has {name}"
        ours = gradients[name].block(0, len(parameter), like=parameter)
        assert torch.allclose(ours, wanted[name], atol=1e-9), (
            f"gradients() gives the gradient of loss() by {name}"
        )
        assert bool(ours.abs().sum() > 0), f"the gradient of {name} is not zero"
    empty, _ = sae.gradients(x[:0], objective, target=target[:0])
    assert float(empty.fvu) == 0, "a batch of no tokens costs nothing"


def _names(sae: SAE) -> list[str]:
    return [name for name, _ in sae.named_parameters()]


def _autograd(total: Tensor, sae: SAE) -> list[Tensor]:
    parameters = list(sae.parameters())
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    return [
        torch.zeros_like(p) if gradient is None else gradient
        for p, gradient in zip(parameters, found, strict=True)
    ]


def _check_figures(sae: SAE, found: object, loss: object, *, n_tokens: int) -> None:
    assert isinstance(found, tuple)
    assert isinstance(loss, tuple)
    total, fvu, _, counts, n_active, lowest = found
    assert torch.allclose(total, loss[0]), "gradients() gives the total of loss()"
    assert not total.requires_grad, "what gradients() gives needs no autograd"
    assert counts.shape == (sae.config.n_latents,), "counts has a number a latent"
    assert float(fvu) >= 0, "fvu is not negative"
    assert float(counts.sum()) <= float(n_active), f"counts are of values above {FIRED}"
    assert 0 <= float(n_active) <= n_tokens * sae.config.n_latents, "n_active is a number of pairs"
    assert float(lowest.detach()) > 0, (
        "the smallest active value is positive, or infinite without any"
    )
