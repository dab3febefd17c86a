"""Whole training steps: the same loss curve from every implementation and from dense PyTorch."""

import os

import pytest
import torch
from torch import Tensor

from bench.steps import State, dense_step, fresh_state, our_step
from saetools_kernels import use_implementation

CPU = torch.device("cpu")


def curve(
    step, *, widths: tuple[int, ...], n_steps: int, device: torch.device = CPU
) -> tuple[Tensor, State]:
    """Losses of a tiny SAE in float32 on data that three directions make."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(3, 8, generator=generator)
    state = fresh_state(8, widths[-1], device=device)
    state.shadows.clear()  # the 16-bit copies that a GPU would compute with
    losses = []
    for _ in range(n_steps):
        x = torch.rand(3, 3, generator=generator) @ directions
        losses.append(step(state, x.to(device), k=2, widths=widths))
    return torch.stack(losses), state


@pytest.mark.parametrize(
    ("widths", "n_steps"), [((8,), 30), ((2, 4, 8), 200)], ids=["topk", "matryoshka"]
)
def test_hundreds_of_steps_have_the_curve_of_the_references(
    implementation: str, device: torch.device, widths: tuple[int, ...], n_steps: int
) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1" and implementation == "torch":
        pytest.skip("runs outside the interpreter")
    found, state = curve(our_step, widths=widths, n_steps=n_steps, device=device)
    with use_implementation("reference"):
        wanted, plain = curve(our_step, widths=widths, n_steps=n_steps, device=device)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    for name, weights in state.weights.items():
        torch.testing.assert_close(weights, plain.weights[name], rtol=1e-2, atol=1e-3)
    if n_steps == 200:
        assert found[-20:].mean() < 0.8 * found[:20].mean()


@pytest.mark.parametrize("widths", [(12,), (3, 6, 12)], ids=["topk", "matryoshka"])
def test_a_step_is_that_of_dense_autograd_with_adam(widths: tuple[int, ...]) -> None:
    found, state = curve(our_step, widths=widths, n_steps=30)
    wanted, dense = curve(dense_step, widths=widths, n_steps=30)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(state.weights["W_enc"], dense.weights["W_enc"], rtol=0, atol=1e-4)
