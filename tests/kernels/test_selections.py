"""What is special to selections: ties, NaN, and use with a decode."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saetools_kernels import KernelInputError, aux_decode, bag_decode, batch_topk, threshold_rows
from saetools_kernels.batch_topk import cpu, reference

Place = Callable[[Any], Any]
KINDS = ("distinct", "ties", "zeros", "nan", "infinite", "one row")


def matrix(kind: str, n: int, n_latents: int) -> Tensor:
    x = torch.randn(n, n_latents, generator=torch.Generator().manual_seed(n))
    if kind == "ties":
        return x.round()
    if kind == "zeros":  # 0 and -0 are equal
        x = torch.zeros_like(x)
        x[:, ::3] = -0.0
    if kind == "nan":
        x[x > 1.5] = float("nan")
    if kind == "infinite":
        x = x.round() / 0.0  # NaN, ∞ and -∞
    if kind == "one row":  # one row holds nearly all that is large
        x[1] += 10.0
    return x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n_latents", "k"), [(40, 5), (130, 2)])
def test_the_largest_of_a_batch_and_the_first_of_equals(
    place: Place, kind: str, n_latents: int, k: int
) -> None:
    x = place(matrix(kind, 3, n_latents))
    found, wanted = batch_topk(x, k), reference.batch_topk(x, k)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_a_wrong_guess_costs_time_and_not_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    x = matrix("distinct", 30, 200)
    x[:, 3] -= 100.0
    monkeypatch.setattr(cpu, "_SAMPLE", 7)  # too few to know anything
    found, wanted = batch_topk(x, 9), reference.batch_topk(x, 9)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 6), st.integers(1, 90), st.integers(0, 9), st.booleans(), st.integers(0, 99))
def test_a_batch_keeps_exactly_what_nothing_else_exceeds(
    n: int, n_latents: int, k: int, ties: bool, seed: int
) -> None:
    x = torch.randn(n, n_latents, generator=torch.Generator().manual_seed(seed))
    x = x.round() if ties else x
    k = min(k, n_latents)
    values, rows, latents, bounds = batch_topk(x, k)
    assert torch.equal(x[rows, latents], values)
    assert torch.equal(values.sort().values, x.flatten().sort().values[n * (n_latents - k) :])
    positions = rows * n_latents + latents
    assert bool((positions.diff() > 0).all())
    assert torch.equal(bounds.diff(), torch.bincount(rows, minlength=n))


def test_a_jumprelu_decodes_as_its_dense_form(place: Place) -> None:
    x = place(matrix("distinct", 4, 30)).requires_grad_()
    thresholds, W = place((torch.linspace(-1, 2, 30), torch.randn(30, 6)))
    entries = threshold_rows(x, thresholds)
    x_hat = bag_decode(entries.values, entries.latents, entries.bounds, W)
    dense = (x * (x > thresholds)) @ W
    torch.testing.assert_close(x_hat, dense)
    (found,) = torch.autograd.grad(x_hat.square().sum(), x)
    (wanted,) = torch.autograd.grad(dense.square().sum(), x)
    torch.testing.assert_close(found, wanted)


def test_nothing_above_is_an_empty_list(place: Place) -> None:
    entries = threshold_rows(*place((torch.full((3, 5), float("nan")), torch.zeros(5))))
    assert entries.values.shape == entries.latents.shape == (0,)
    assert entries.bounds.tolist() == [0, 0, 0, 0]
    assert batch_topk(place(torch.ones(2, 3)), 0).bounds.tolist() == [0, 0, 0]


def test_wrong_arguments_are_named() -> None:
    x = torch.ones(2, 3)
    with pytest.raises(KernelInputError, match="batch_topk: k is 4"):
        batch_topk(x, 4)
    with pytest.raises(KernelInputError, match=r"batch_topk: x has shape \(3,\)"):
        batch_topk(x[0], 1)
    with pytest.raises(KernelInputError, match=r"thresholds has shape \(2,\); wanted"):
        threshold_rows(x, torch.ones(2))
    with pytest.raises(KernelInputError, match=r"thresholds is torch\.int64"):
        threshold_rows(x, torch.ones(3, dtype=torch.int64))


def test_only_listed_latents_take_part_and_both_matrices_learn() -> None:
    x = torch.tensor([[3.0, 2.0, 1.0]])
    W_enc, W_dec = torch.eye(3).requires_grad_(), torch.eye(3).requires_grad_()
    b_enc = torch.zeros(3).requires_grad_()
    listed = torch.tensor([2, 1])  # latent 0 is the largest and not listed
    x_hat = aux_decode(x, W_enc, b_enc, W_dec, listed, 1)
    assert x_hat.tolist() == [[0.0, 2.0, 0.0]]
    d_enc, d_bias, d_dec = torch.autograd.grad(x_hat.sum(), [W_enc, b_enc, W_dec])
    assert d_enc.tolist() == [[0.0, 0.0, 0.0], [3.0, 2.0, 1.0], [0.0, 0.0, 0.0]]
    assert d_bias.tolist() == [0.0, 1.0, 0.0]
    assert d_dec.tolist() == [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]
    with pytest.raises(KernelInputError, match="latents holds 3"):
        aux_decode(x, W_enc, b_enc, W_dec, listed + 1, 1)
    with pytest.raises(KernelInputError, match="k is 3"):
        aux_decode(x, W_enc, b_enc, W_dec, listed, 3)
