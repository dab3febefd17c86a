"""What is special to scattering rows: the order that is made once and used twice."""

import pytest
import torch

from saetools_kernels import KernelInputError, raw


@pytest.mark.parametrize("n_latents", [32767, 32768, 70000])
def test_order_is_right_where_sort_keys_change_their_width(n_latents: int) -> None:
    latents = torch.tensor([n_latents - 1, 0, 5, n_latents - 1, 0])
    order = raw.order_by_latent(latents, n_latents)
    assert order.permutation.tolist() == [1, 4, 2, 0, 3]
    sizes = order.offsets.diff()
    assert torch.equal(sizes, torch.bincount(latents, minlength=n_latents))


def test_one_order_serves_both_weight_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(0, 5, (6, 3), generator=generator)
    rows = torch.arange(6).repeat_interleave(3)
    order = raw.order_by_latent(indices, 5)
    buffer = torch.full((5, 4), float("nan"))
    for _ in range(2):
        values = torch.randn(18, generator=generator)
        x = torch.randn(6, 4, generator=generator)
        written = raw.scatter_ordered(values, rows, order, x, out=buffer)
        assert written is buffer
        assert torch.equal(buffer, raw.row_scatter_add(values, rows, indices.flatten(), x, 5))


def test_an_order_of_other_entries_is_refused() -> None:
    order = raw.order_by_latent(torch.tensor([0, 1, 1]), 2)
    with pytest.raises(KernelInputError, match=r"order\.permutation has shape \(3,\)"):
        raw.scatter_ordered(torch.ones(2), torch.zeros(2, dtype=torch.int64), order, torch.eye(2))
