"""Edits in closed form are what their formulas say, checked against known answers."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saetools.unlearn.closed_form import exact_edit, keep_matrix, soft_edit


def drawn(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@given(seed=st.integers(0, 100), m=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_the_exact_edit_gives_every_key_its_value(seed: int, m: int):
    w, keys, values = drawn(seed, 12, 5), drawn(seed + 1, m, 12), drawn(seed + 2, m, 5)
    keep = keep_matrix(drawn(seed + 3, 40, 12), ridge=0.1)
    edited = exact_edit(w, keep, keys, values)
    torch.testing.assert_close(keys @ edited, values)


def test_the_exact_edit_of_one_key_is_romes_rank_one_formula():
    w, k, v = drawn(0, 12, 5), drawn(1, 1, 12), drawn(2, 1, 5)
    keep = keep_matrix(drawn(3, 40, 12), ridge=0.1)
    u = torch.linalg.solve(keep, k.T)  # C⁻¹k
    rome = w + u @ (v - k @ w) / (k @ u)
    torch.testing.assert_close(exact_edit(w, keep, k, v), rome)
    assert torch.linalg.matrix_rank(exact_edit(w, keep, k, v) - w) == 1


def test_the_exact_edit_moves_kept_inputs_least_of_all_that_give_the_values():
    w, keys, values = drawn(0, 12, 5), drawn(1, 2, 12), drawn(2, 2, 5)
    keep = keep_matrix(drawn(3, 40, 12), ridge=0.1)

    def damage(edited: torch.Tensor) -> float:
        change = edited - w
        return float((change * (keep @ change)).sum())

    best = exact_edit(w, keep, keys, values)
    _, _, vh = torch.linalg.svd(keys)
    for seed in range(20):  # other maps that give the same values: add what keys do not see
        other = best + 0.1 * vh[2:].T @ drawn(10 + seed, 10, 5)
        torch.testing.assert_close(keys @ other, values)
        assert damage(other) > damage(best)


def test_the_soft_edit_is_the_minimum_of_its_objective():
    w, keys, values = drawn(0, 12, 5), drawn(1, 7, 12), drawn(2, 7, 5)
    keep = keep_matrix(drawn(3, 40, 12), ridge=0.1)
    edited = soft_edit(w, keep, keys, values).requires_grad_()
    change = edited - w
    loss = (keys @ edited - values).square().sum() + (change * (keep @ change)).sum()
    (gradient,) = torch.autograd.grad(loss, edited)
    assert gradient.abs().max() < 1e-9


def test_without_a_new_value_nothing_changes():
    w, keys = drawn(0, 12, 5), drawn(1, 3, 12)
    keep = keep_matrix(drawn(3, 40, 12), ridge=0.1)
    for edit in (exact_edit, soft_edit):
        torch.testing.assert_close(edit(w, keep, keys, keys @ w), w)
