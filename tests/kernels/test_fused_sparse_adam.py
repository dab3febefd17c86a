"""The optimiser step that never writes a gradient equals torch's Adam on one written out."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from saetools_kernels import KernelInputError, raw, use_implementation
from saetools_kernels.fused_sparse_adam import (
    AdamSettings,
    RowGradient,
    SomeRows,
    fused_sparse_adam,
    gradient_squared_norm,
    row_sums,
)

F, D, N, K = 300, 24, 40, 5
Place = Callable[[Any], Any]


def _gradient(seed: int, dtype: torch.dtype = torch.float64) -> RowGradient:
    g = torch.Generator().manual_seed(seed)
    latents = torch.randint(0, F - 50, (N * K,), generator=g)  # the last fifty never fire
    rows = torch.arange(N).repeat_interleave(K)
    values = torch.randn(N * K, generator=g, dtype=dtype)
    source = torch.randn(N, D, generator=g, dtype=dtype)
    order = raw.order_by_latent(latents, F)
    index = torch.tensor([0, 7, F - 1])
    some = SomeRows(index, torch.randn(3, D, generator=g, dtype=dtype))
    whole = torch.randn(F, D, generator=g, dtype=dtype) * (torch.arange(F) < 60).unsqueeze(1)
    return RowGradient((row_sums(values, rows, order, source),) * 2, (some,), whole)


def _written_out(gradient: RowGradient) -> torch.Tensor:
    out = torch.zeros(F, D, dtype=torch.float64)
    for part in gradient.sums:
        for latent in range(F):
            for j in range(int(part.offsets[latent]), int(part.offsets[latent + 1])):
                out[latent] += part.values[j] * part.source[part.rows[j]]
    for index, rows in gradient.some:
        out[index] += rows
    assert gradient.whole is not None
    return out + gradient.whole


@pytest.fixture(params=["torch", "reference"])
def torch_or_reference(request, monkeypatch):  # type: ignore[no-untyped-def]
    # Blocks of 16 rows, so that block borders are crossed at this size.
    monkeypatch.setattr("saetools_kernels.fused_sparse_adam.cpu._BLOCK_BYTES", 16 * D * 8)
    with use_implementation(request.param):
        yield request.param


@pytest.mark.usefixtures("torch_or_reference")
def test_equals_torch_adam_on_the_same_gradients_also_where_nothing_fired() -> None:
    W = torch.randn(F, D, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    expected = W.clone().requires_grad_()
    adam = torch.optim.Adam([expected], lr=1e-2)
    m, v = torch.zeros_like(W), torch.zeros_like(W)
    for step in range(1, 5):
        gradient = _gradient(step)
        expected.grad = _written_out(gradient)
        adam.step()
        fused_sparse_adam(W, m, v, gradient, AdamSettings(lr=1e-2, step=step))
    torch.testing.assert_close(W, expected.detach())


@pytest.mark.usefixtures("torch_or_reference")
@pytest.mark.parametrize("unit_rows", [False, True])
def test_lazy_leaves_latents_without_a_gradient_alone_and_steps_the_others(unit_rows: bool) -> None:
    start = torch.nn.functional.normalize(torch.randn(F, D, dtype=torch.float64), dim=1)
    lazy, plain = ([start.clone(), *torch.zeros(2, F, D).double().unbind()] for _ in range(2))
    settings = AdamSettings(lr=1e-2, step=1, unit_rows=unit_rows)
    fused_sparse_adam(*lazy, _gradient(1), replace(settings, lazy=True))
    fused_sparse_adam(*plain, _gradient(1), settings)
    fired = _written_out(_gradient(1)).abs().sum(1) > 0
    assert 0 < int(fired.sum()) < F
    for mine, theirs in zip(lazy, plain, strict=True):
        torch.testing.assert_close(mine[fired], theirs[fired])
    lazy[1][~fired], lazy[2][~fired] = 1.0, 1.0  # moments that Adam would follow
    before = lazy[0].clone()
    fused_sparse_adam(*lazy, _gradient(1), replace(settings, step=2, lazy=True))
    assert torch.equal(lazy[0][~fired], before[~fired])
    assert bool((lazy[1][~fired] == 1).all() and (lazy[2][~fired] == 1).all())
    assert not torch.equal(lazy[0][fired], before[fired])


@pytest.mark.usefixtures("torch_or_reference")
def test_unit_rows_step_across_the_row_and_stay_on_the_sphere() -> None:
    W = torch.nn.functional.normalize(torch.randn(F, D, dtype=torch.float64), dim=1)
    before, gradient = W.clone(), _gradient(1)
    m, v = torch.zeros_like(W), torch.zeros_like(W)
    fused_sparse_adam(W, m, v, gradient, AdamSettings(lr=1e-3, step=1, unit_rows=True, scale=0.5))
    assert torch.allclose(W.norm(dim=1), torch.ones(F, dtype=torch.float64))
    flat = 0.5 * _written_out(gradient)
    flat -= (flat * before).sum(1, keepdim=True) * before
    torch.testing.assert_close(m, 0.1 * flat)
    assert bool(((m * before).sum(1).abs() < 1e-12).all())


@pytest.mark.usefixtures("torch_or_reference")
def test_the_norm_is_that_of_the_gradient_written_out() -> None:
    W = torch.nn.functional.normalize(torch.randn(F, D, dtype=torch.float64), dim=1)
    gradient = _gradient(3)
    flat = _written_out(gradient)
    torch.testing.assert_close(gradient_squared_norm(W, gradient), flat.square().sum())
    flat -= (flat * W).sum(1, keepdim=True) * W
    torch.testing.assert_close(
        gradient_squared_norm(W, gradient, unit_rows=True), flat.square().sum()
    )


@pytest.mark.usefixtures("torch_or_reference")
def test_sixteen_bit_moments_stay_close_to_full_ones() -> None:
    W = torch.randn(F, D, generator=torch.Generator().manual_seed(9))
    narrow = W.clone()
    m, v = torch.zeros_like(W), torch.zeros_like(W)
    m16, v16 = m.bfloat16(), v.bfloat16()
    for step in range(1, 4):
        gradient = _gradient(step, torch.float32)
        fused_sparse_adam(W, m, v, gradient, AdamSettings(lr=1e-2, step=step))
        fused_sparse_adam(narrow, m16, v16, gradient, AdamSettings(lr=1e-2, step=step))
    assert m16.dtype == torch.bfloat16
    assert float((narrow - W).abs().max()) < 2e-3


def test_a_wrong_input_is_named() -> None:
    W = torch.zeros(F, D)
    good = _gradient(1, torch.float32)
    with pytest.raises(KernelInputError, match=r"m has shape \(3, 24\)"):
        fused_sparse_adam(W, W[:3], W, good, AdamSettings(lr=1.0, step=1))
    with pytest.raises(KernelInputError, match=r"v is torch\.float16"):
        fused_sparse_adam(W, W, W.half(), good, AdamSettings(lr=1.0, step=1))
    with pytest.raises(KernelInputError, match="step 0"):
        fused_sparse_adam(W, W, W, good, AdamSettings(lr=1.0, step=0))
    with pytest.raises(KernelInputError, match=r"sums\.offsets has shape"):
        fused_sparse_adam(W[:9], W[:9], W[:9], good, AdamSettings(lr=1.0, step=1))


@pytest.mark.parametrize("split", [3, 64])
def test_long_lists_are_summed_in_pieces_to_the_same_step(
    implementation: str, place: Place, split: int
) -> None:
    gradient = place(_busy_gradient())
    if implementation == "triton":
        kernel = importlib.import_module("saetools_kernels.fused_sparse_adam.kernel")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernel, "_SPLIT", split)
            found = _one_step(gradient)
    else:
        found = _one_step(gradient)
    with use_implementation("reference"):
        wanted = _one_step(gradient)
    torch.testing.assert_close(found, wanted)


def _busy_gradient() -> RowGradient:
    """Latent 2 fires for all of 40 tokens, 4 and 5 for some, the other four never."""
    latents = torch.tensor([2] * 40 + [4, 5] * 20)
    rows = torch.arange(40).repeat(2)
    g = torch.Generator().manual_seed(0)
    values, source = torch.randn(80, generator=g), torch.randn(40, D, generator=g)
    return RowGradient((row_sums(values, rows, raw.order_by_latent(latents, 7), source),))


def _one_step(gradient: RowGradient, moments: torch.dtype = torch.float32) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    W, m = torch.randn(7, D, generator=g), torch.randn(7, D, generator=g)
    v = torch.rand(7, D, generator=g) + 0.1
    device = gradient.sums[0].source.device
    W, m, v = W.to(device), m.to(device, moments), v.to(device, moments)
    fused_sparse_adam(W, m, v, gradient, AdamSettings(lr=0.1, step=2))
    return torch.stack([W, m.float(), v.float()])


def test_sixteen_bit_moments_are_the_full_ones_rounded(place: Place) -> None:
    found = _one_step(place(_busy_gradient()), torch.bfloat16)
    with use_implementation("reference"):
        wanted = _one_step(place(_busy_gradient()), torch.bfloat16)
    torch.testing.assert_close(found[0], wanted[0])
    # One unit in the last place: Triton's interpreter cuts where a GPU rounds.
    torch.testing.assert_close(found[1:], wanted[1:], rtol=2**-7, atol=0)


def test_the_shadow_is_the_new_weights_in_another_dtype(place: Place) -> None:
    W = place(torch.nn.functional.normalize(torch.randn(7, D), dim=1))
    shadow = torch.empty_like(W, dtype=torch.float16)
    m, v = torch.zeros_like(W), torch.zeros_like(W)
    settings = AdamSettings(lr=0.1, step=1, unit_rows=True)
    fused_sparse_adam(W, m, v, place(_busy_gradient()), settings, shadow=shadow)
    torch.testing.assert_close(shadow, W.half())


def test_sixteen_bit_sources_give_the_step_of_the_same_numbers(
    implementation: str, place: Place
) -> None:
    gradient = place(_busy_gradient())
    part = gradient.sums[0]
    narrow = part._replace(source=part.source.half())
    wide = part._replace(source=narrow.source.float())
    found, wanted = (_one_step(RowGradient((term,))) for term in (narrow, wide))
    # The torch path sums 16-bit sources in 16 bits, which the kernel does not.
    tight = implementation == "triton"
    torch.testing.assert_close(found, wanted, atol=1e-6 if tight else 5e-3, rtol=1e-6)


def test_parts_of_different_precision_add_up_in_that_of_the_weights() -> None:
    part = _busy_gradient().sums[0]
    some = SomeRows(torch.tensor([2, 6]), torch.full((2, D), 1e-3))
    narrow = RowGradient((part._replace(source=part.source.bfloat16()),), (some,))
    found = narrow.block(0, 7, like=torch.empty(7, D))
    assert found.dtype == torch.float32
    assert torch.equal(found[6], some.rows[1])
    wanted = RowGradient((part,), (some,)).block(0, 7, like=torch.empty(7, D))
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.2)


def test_a_shadow_of_another_shape_is_named() -> None:
    W = torch.zeros(F, D)
    good, settings = _gradient(1, torch.float32), AdamSettings(lr=1.0, step=1)
    with pytest.raises(KernelInputError, match=r"shadow has shape \(3, 24\)"):
        fused_sparse_adam(W, W, W, good, settings, shadow=W[:3])
