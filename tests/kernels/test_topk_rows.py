"""What is special to top-k: ties go to the lowest index, and column blocks give the whole row's."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from saetools_kernels import TopK, raw, topk_rows
from saetools_kernels.topk_rows import reference

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
Place = Callable[[Any], Any]
KINDS = ("distinct", "ties", "zeros", "nan", "infinite")


def rows(kind: str, n: int, n_latents: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(n_latents)
    x = torch.randn(n, n_latents, generator=generator)
    if kind == "ties":
        x = x.round()
    if kind == "zeros":  # 0 and -0 are equal
        x = torch.zeros_like(x)
        x[:, ::3] = -0.0
    if kind == "nan":
        x[x > 1.5] = float("nan")
    if kind == "infinite":
        x = x.round() / 0.0  # NaN, ∞ and -∞ by the dozen
    return x.to(dtype)


def by_index(top: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    order = top[1].argsort(1)
    return top[0].gather(1, order), top[1].gather(1, order)


def assert_same(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(by_index(found), by_index(wanted), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "n_latents", "k"), [(3, 40, 4), (2, 1000, 37), (1, 5001, 3)])
def test_among_equals_the_lowest_index_is_kept(
    place: Place, kind: str, n: int, n_latents: int, k: int, dtype: torch.dtype
) -> None:
    if INTERPRETING and dtype != torch.float32 and n_latents > 40:
        n_latents = 400  # the interpreter takes its time
    x = place(rows(kind, n, n_latents, dtype))
    assert_same(topk_rows(x, k), reference.topk_rows(x, k))


def test_rows_longer_than_one_level_of_groups(place: Place) -> None:
    x = place(rows("ties", 1, 140_000, torch.float32))
    assert_same(topk_rows(x, 3), reference.topk_rows(x, 3))


def test_the_largest_k_that_the_kernel_takes(place: Place) -> None:
    x = place(rows("ties", 1, 700, torch.float32))
    for k in (512, 513):  # 513 goes to the torch path
        assert_same(topk_rows(x, k), reference.topk_rows(x, k))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n_latents", "k", "width"), [(50, 7, 7), (50, 7, 3), (300, 20, 128)])
def test_column_blocks_merge_to_the_whole_row(
    place: Place, kind: str, n_latents: int, k: int, width: int
) -> None:
    x = place(rows(kind, 2, n_latents, torch.float32))
    best: TopK | None = None
    for first in range(0, n_latents, width):
        best = raw.topk_merge(best, x[:, first : first + width], k, first=first)
    assert best is not None
    assert_same(best, reference.topk_rows(x, k))


def test_the_kernel_writes_columns_in_ascending_order(implementation: str, place: Place) -> None:
    if implementation == "triton":
        indices = topk_rows(place(rows("ties", 4, 300, torch.float32)), 9).indices
        assert bool((indices.diff(dim=1) > 0).all())


def test_an_all_equal_row_keeps_its_first_columns(place: Place) -> None:
    assert sorted(topk_rows(place(torch.full((1, 97), 2.5)), 4).indices[0].tolist()) == [0, 1, 2, 3]
