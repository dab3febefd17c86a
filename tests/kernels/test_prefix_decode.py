"""What is special to nested reconstructions: known answers, one level, pieces, buffers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from saetools_kernels import KernelInputError, prefix_loss, raw, sparse_decode
from saetools_kernels.prefix_decode import cpu, reference

ONE = torch.tensor([1.0])
Place = Callable[[Any], Any]


def two_levels() -> dict[str, Tensor]:
    """One token, target (3, 4); level 0 holds latent 0, level 1 latents 1 and 2."""
    return {
        "values": torch.tensor([1.0, 2.0, 1.0]),
        "latents": torch.tensor([0, 1, 2]),
        "bounds": torch.tensor([0, 1, 3]),
        "W": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        "target": torch.tensor([[3.0, 4.0]]),
        "weights": torch.tensor([1.0, 10.0]),
    }


def drawn(n: int, k: int, n_levels: int, *, d: int = 6, n_latents: int = 20) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(n_levels)
    latents = torch.rand(n, n_latents, generator=generator).argsort(1)[:, :k].sort(1).values
    level = latents * n_levels // n_latents
    bag = (level + n_levels * torch.arange(n).unsqueeze(1)).flatten()
    return {
        "values": torch.rand(n * k, generator=generator),
        "latents": latents.flatten(),
        "bounds": torch.searchsorted(bag, torch.arange(n * n_levels + 1)),
        "W": torch.randn(n_latents, d, generator=generator),
        "target": torch.randn(n, d, generator=generator),
        "weights": torch.rand(n_levels, generator=generator),
    }


def test_two_levels_by_hand(place: Place) -> None:
    errors, sources, residual, dots = raw.prefix_decode(**place(two_levels()))
    # Residuals (2, 4) and then (1, 1): squared 20 and 2.
    assert errors.tolist() == [20.0, 2.0]
    assert residual.tolist() == [[1.0, 1.0]]
    assert sources.tolist() == [[2.0 + 10.0, 4.0 + 10.0], [10.0, 10.0]]
    assert dots.tolist() == [12.0, 10.0, 20.0]


def test_the_loss_by_hand(place: Place) -> None:
    arguments = place(two_levels())
    leaves = [arguments[name].requires_grad_() for name in ("values", "W", "target")]
    loss, errors, residual = prefix_loss(**arguments)
    assert loss.item() == 20.0 + 10.0 * 2.0
    assert not errors.requires_grad
    assert not residual.requires_grad
    d_values, d_W, d_target = torch.autograd.grad(3 * loss, leaves)
    assert d_values.tolist() == [-6 * 12.0, -6 * 10.0, -6 * 20.0]
    assert d_W.tolist() == [[-72.0, -84.0], [-120.0, -120.0], [-60.0, -60.0]]
    assert d_target.tolist() == [[72.0, 84.0]]


def test_one_level_is_the_squared_error_of_a_decode(place: Place) -> None:
    arguments = place(drawn(4, 3, 1))
    leaves = [arguments[name].requires_grad_() for name in ("values", "W", "target")]
    loss = prefix_loss(**{**arguments, "weights": place(ONE)}).loss
    values, latents = arguments["values"].view(4, 3), arguments["latents"].view(4, 3)
    x_hat = sparse_decode(values, latents, arguments["W"])
    plain = (arguments["target"] - x_hat).square().sum()
    torch.testing.assert_close(loss, plain)
    for found, wanted in zip(
        torch.autograd.grad(loss, leaves), torch.autograd.grad(plain, leaves), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_more_levels_than_the_kernel_takes_still_run(place: Place) -> None:
    arguments = place(drawn(3, 8, 10))
    found = raw.prefix_decode(**arguments)
    for ours, wanted in zip(found, reference.prefix_decode(**arguments), strict=True):
        torch.testing.assert_close(ours, wanted)


def test_buffers_are_written_in_place_and_may_be_used_again(place: Place) -> None:
    arguments = place(drawn(5, 4, 3))
    sources, residual = place((torch.empty(15, 6), torch.empty(5, 6)))
    for _ in range(2):
        found = raw.prefix_decode(**arguments, out_sources=sources, out_residual=residual)
        assert found.sources is sources
        assert found.residual is residual
        for ours, wanted in zip(found, reference.prefix_decode(**arguments), strict=True):
            torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize("n_levels", [1, 3])
def test_pieces_give_the_same_as_all_tokens_at_once(
    n_levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = drawn(11, 4, n_levels)
    whole = raw.prefix_decode(**arguments)
    monkeypatch.setattr(cpu, "_PIECE_BYTES", 3 * n_levels * 6 * 4)  # three tokens at a time
    for ours, wanted in zip(raw.prefix_decode(**arguments), whole, strict=True):
        torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("weights is empty", {"weights": ONE[:0]}),
        ("bounds has shape (3,); wanted (n * levels + 1=2)", {"weights": ONE}),
        ("bounds runs from 0 to 2", {"bounds": torch.tensor([0, 1, 2])}),
        ("target has shape (1, 3)", {"target": torch.ones(1, 3)}),
        ("latents holds 3", {"latents": torch.tensor([0, 1, 3])}),
        ("latents has shape (2,)", {"latents": torch.tensor([0, 1])}),
        ("weights is torch.int64", {"weights": torch.tensor([1, 1])}),
        ("out_sources has shape (1, 2)", {"out_sources": torch.ones(1, 2)}),
        ("out_residual has shape (2, 2)", {"out_residual": torch.ones(2, 2)}),
    ],
)
def test_a_wrong_argument_is_named(message: str, change: dict[str, Tensor]) -> None:
    with pytest.raises(KernelInputError) as caught:
        raw.prefix_decode(**{**two_levels(), **change})
    assert message in str(caught.value)
