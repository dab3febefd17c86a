"""The optimiser step that never writes a gradient equals torch's Adam on one written out."""

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
def implementation(request, monkeypatch):  # type: ignore[no-untyped-def]
    # Blocks of 16 rows, so that block borders are crossed at this size.
    monkeypatch.setattr("saetools_kernels.fused_sparse_adam.cpu._BLOCK_BYTES", 16 * D * 8)
    with use_implementation(request.param):
        yield request.param


@pytest.mark.usefixtures("implementation")
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


@pytest.mark.usefixtures("implementation")
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


@pytest.mark.usefixtures("implementation")
def test_the_norm_is_that_of_the_gradient_written_out() -> None:
    W = torch.nn.functional.normalize(torch.randn(F, D, dtype=torch.float64), dim=1)
    gradient = _gradient(3)
    flat = _written_out(gradient)
    torch.testing.assert_close(gradient_squared_norm(W, gradient), flat.square().sum())
    flat -= (flat * W).sum(1, keepdim=True) * W
    torch.testing.assert_close(
        gradient_squared_norm(W, gradient, unit_rows=True), flat.square().sum()
    )


@pytest.mark.usefixtures("implementation")
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
