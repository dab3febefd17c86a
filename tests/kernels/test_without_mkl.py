"""Machines whose torch has no MKL (ARM, macOS) take the other half of the torch path."""

import pytest
import torch
from torch import Tensor

from saetools_kernels import _bags, bag_decode, gathered_dots, row_scatter_add, sparse_decode


def results() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(7, 4, generator=generator).half()
    indices = torch.randint(0, 9, (7, 4), generator=generator)
    W = torch.randn(9, 6, generator=generator).requires_grad_()
    rows = torch.arange(7).repeat_interleave(4)
    decoded = sparse_decode(values, indices, W)
    offsets = torch.tensor([0, 0, 5, 5, 28])
    return {
        "sparse_decode": decoded.detach(),
        "its gradient": torch.autograd.grad(decoded.square().sum(), W)[0],
        "bag_decode": bag_decode(values.flatten(), indices.flatten(), offsets, W).detach(),
        "row_scatter_add": row_scatter_add(
            values.flatten(), rows, indices.flatten(), decoded.detach(), 9
        ),
        "gathered_dots": gathered_dots(decoded.detach(), W.detach(), rows, indices.flatten()),
    }


def test_both_halves_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    with_mkl = results()
    monkeypatch.setattr(_bags, "_mkl", lambda: False)
    monkeypatch.setattr(_bags, "csr_matrix", None)  # proves that the other half runs
    without = results()
    for name, found in without.items():
        torch.testing.assert_close(found, with_mkl[name], msg=name)
