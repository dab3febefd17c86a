"""The straight-through estimator of JumpReLU, and where its thresholds may be."""

import math

import pytest
import torch

from saetools.sae import Objective, build_sae
from saetools.sae.archs.jumprelu import jump


@pytest.mark.parametrize("bandwidth", [0.02, 0.1])
def test_the_threshold_gradient_is_that_of_the_expected_loss(bandwidth: float) -> None:
    """Card 02, test 1: within 10 %; measured there .1994 and .1971 against .1995."""
    theta, x, w, price, n = 0.5, 1.2, 0.8, 0.3, 2_000_000
    g = torch.Generator().manual_seed(0)
    acts = theta + torch.randn(n, 1, generator=g, dtype=torch.float64)
    threshold = torch.tensor([theta], dtype=torch.float64, requires_grad=True)
    latents, n_active = jump(acts, threshold, bandwidth=bandwidth)
    loss = (x - w * latents).square().sum() / n + price * n_active / n
    (found,) = torch.autograd.grad(loss, threshold)
    density = 1 / math.sqrt(2 * math.pi)
    exact = density * (x**2 - (x - w * theta) ** 2 - price)
    assert exact == pytest.approx(0.1995, abs=1e-4)
    assert float(found) == pytest.approx(exact, rel=0.1)


def test_a_latent_passes_gradients_only_where_it_is_on() -> None:
    acts = torch.tensor([[0.2, 0.9]], requires_grad=True)
    latents, n_active = jump(acts, torch.full((2,), 0.5), bandwidth=0.1)
    (latents.sum() + n_active).backward()
    assert acts.grad is not None
    assert acts.grad.tolist() == [[0.0, 1.0]]
    assert float(n_active.detach()) == 1


def test_thresholds_start_at_the_target_and_stay_above_zero() -> None:
    sae = build_sae("jumprelu", d_in=16, n_latents=48, target_l0=4)
    x = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    sae.begin(x)
    assert float(sae.encode(x).l0().float().mean()) == pytest.approx(4, abs=0.01)
    with torch.no_grad():
        sae.get_parameter("threshold")[3] = -1.0
    sae.constrain()
    assert float(sae.get_parameter("threshold").detach().min()) == 0
    given = build_sae("jumprelu", d_in=16, n_latents=48, target_l0=4, initial_threshold=0.3)
    given.begin(x)
    assert bool((given.get_parameter("threshold") == 0.3).all())


def test_dead_latents_are_pulled_towards_their_threshold() -> None:
    sae = build_sae("jumprelu", d_in=16, n_latents=48, target_l0=4)
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    sae.begin(x)
    sae.b_enc.data[7] = -100
    dead = torch.zeros(48, dtype=torch.bool)
    dead[7] = True
    _, without = sae.gradients(x, Objective(16.0))
    _, found = sae.gradients(x, Objective(16.0, dead=dead))
    assert without["b_enc"].whole is not None
    assert found["b_enc"].whole is not None
    assert float(without["b_enc"].whole[7]) == 0
    assert float(found["b_enc"].whole[7]) < 0, "a step down the gradient raises its bias"
