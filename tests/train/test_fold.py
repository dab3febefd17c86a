"""Folding the scale of training into the weights is checked, and near-ties are no fault of it."""

import torch

from saetools.train.member import fold_error


def test_rows_in_which_a_near_tie_fell_the_other_way_do_not_stop_a_training() -> None:
    wanted = torch.randn(256, 16, generator=torch.Generator().manual_seed(0))
    turned = wanted.clone()
    turned[:20] += 0.5
    assert fold_error(turned, wanted) < 1e-6


def test_a_wrong_scale_is_found() -> None:
    wanted = torch.randn(256, 16, generator=torch.Generator().manual_seed(0))
    assert fold_error(1.002 * wanted, wanted) > 1e-3
