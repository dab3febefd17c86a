"""A wrong argument is named, with what was found; nothing is computed from it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from saetools_kernels import (
    KernelInputError,
    bag_decode,
    gathered_dots,
    raw,
    row_scatter_add,
    sparse_decode,
    topk_rows,
)

VALUES = torch.ones(3, 2)
INDICES = torch.tensor([[0, 1], [2, 3], [0, 3]])
W = torch.ones(4, 5)
FLAT, WHICH = VALUES.flatten(), INDICES.flatten()
ROWS = torch.tensor([0, 0, 1, 1, 2, 2])
OFFSETS = torch.tensor([0, 2, 4, 6])
X = torch.ones(3, 5)
META = torch.ones(4, 5, device="meta")

WRONG: list[tuple[str, Callable[[], Any]]] = [
    ("values has shape (6,)", lambda: sparse_decode(FLAT, INDICES, W)),
    ("values is torch.int64", lambda: sparse_decode(VALUES.long(), INDICES, W)),
    ("indices has shape (3, 1)", lambda: sparse_decode(VALUES, INDICES[:, :1], W)),
    ("indices is torch.float32", lambda: sparse_decode(VALUES, INDICES.float(), W)),
    ("indices holds 4", lambda: sparse_decode(VALUES, INDICES + 1, W)),
    ("indices holds -1", lambda: sparse_decode(VALUES, INDICES - 1, W)),
    ("W has shape (5,)", lambda: sparse_decode(VALUES, INDICES, W[0])),
    ("W is torch.int64", lambda: sparse_decode(VALUES, INDICES, W.long())),
    ("W is on meta", lambda: sparse_decode(VALUES, INDICES, META)),
    ("out has shape (3, 4)", lambda: raw.sparse_decode(VALUES, INDICES, W, out=W[:3, :4])),
    ("values has shape (3, 2)", lambda: bag_decode(VALUES, WHICH, OFFSETS, W)),
    ("indices has shape (5,)", lambda: bag_decode(FLAT, WHICH[:5], OFFSETS, W)),
    ("offsets runs from 1", lambda: bag_decode(FLAT, WHICH, OFFSETS + 1, W)),
    ("offsets runs from 0 to 4", lambda: bag_decode(FLAT, WHICH, OFFSETS[:3], W)),
    ("offsets runs from 0 to 6", lambda: bag_decode(FLAT, WHICH, OFFSETS[[0, 2, 1, 3]], W)),
    ("offsets has shape (0,)", lambda: bag_decode(FLAT, WHICH, OFFSETS[:0], W)),
    ("offsets is torch.float32", lambda: bag_decode(FLAT, WHICH, OFFSETS.float(), W)),
    ("rows holds 3", lambda: row_scatter_add(FLAT, ROWS + 1, WHICH, X, 4)),
    ("rows has shape (5,)", lambda: row_scatter_add(FLAT, ROWS[:5], WHICH, X, 4)),
    ("latents holds 3", lambda: row_scatter_add(FLAT, ROWS, WHICH, X, 3)),
    ("x has shape (5,)", lambda: row_scatter_add(FLAT, ROWS, WHICH, X[0], 4)),
    ("g has shape (5,)", lambda: gathered_dots(X[0], W, ROWS, WHICH)),
    ("W has shape (4, 4)", lambda: gathered_dots(X, W[:, :4], ROWS, WHICH)),
    ("W is torch.float64", lambda: gathered_dots(X, W.double(), ROWS, WHICH)),
    ("rows holds 3", lambda: gathered_dots(X, W, ROWS + 1, WHICH)),
    ("latents holds 4", lambda: gathered_dots(X, W, ROWS, WHICH + 1)),
    ("x has shape (6,)", lambda: topk_rows(FLAT, 1)),
    ("x is torch.int64", lambda: topk_rows(INDICES, 1)),
    ("k is 3", lambda: topk_rows(VALUES, 3)),
    ("k is -1", lambda: topk_rows(VALUES, -1)),
]


@pytest.mark.parametrize(("message", "call"), WRONG, ids=[message for message, _ in WRONG])
def test_the_message_names_the_argument(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(KernelInputError) as caught:
        call()
    assert message in str(caught.value)
