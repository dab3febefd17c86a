"""Narrower and sparser readings of one SAE: what is selected is selected first, then cut."""

import pytest
import torch

from saetools.errors import ConfigError, NotFittedError, ShapeError
from saetools.sae import Objective, build_sae, to_jumprelu
from saetools.sae.archs._prefixes import drawn_prefixes


def _x(n: int = 40, d: int = 16) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def test_a_prefix_is_cut_after_the_threshold() -> None:
    sae = build_sae("matryoshka", d_in=16, n_latents=48, k=4).with_threshold(0.8)
    acts = sae.pre_acts(_x())
    latents = sae.encode(_x())
    for width in sae.widths:
        expected = acts * (acts > 0.8)
        expected[:, width:] = 0
        torch.testing.assert_close(latents.prefix(width).dense(), expected)


def test_a_prefix_is_cut_after_the_ranking() -> None:
    sae = build_sae("matryoshka", d_in=16, n_latents=48, k=4, selection="topk")
    whole = sae.encode(_x()).dense()
    cut = sae.encode(_x()).prefix(12).dense()
    assert torch.equal(cut[:, :12], whole[:, :12])
    assert bool((cut != 0).sum(1).lt(4).any()), "a latent beyond the prefix keeps its place in k"


@pytest.mark.parametrize("k", [1, 2, 3, 7, 8])
def test_a_hierarchical_sae_reads_at_every_k(k: int) -> None:
    wide = build_sae("hierarchical_topk", d_in=16, n_latents=48, k=8)
    narrow = build_sae("topk", d_in=16, n_latents=48, k=k)
    torch.testing.assert_close(wide.encode(_x()).top(k).dense(), narrow.encode(_x()).dense())


def test_both_axes_can_be_cut() -> None:
    latents = build_sae("topk", d_in=16, n_latents=48, k=8).encode(_x()).prefix(24).top(2)
    dense = latents.dense()
    assert int((dense != 0).sum(1).max()) == 2
    assert not bool(dense[:, 24:].any())
    assert latents.values.shape == (40, 2)


def test_top_of_nothing_is_refused() -> None:
    with pytest.raises(ShapeError, match="k = 0"):
        build_sae("topk", d_in=16, n_latents=48, k=8).encode(_x()).top(0)


def test_drawn_prefixes_rise_end_at_the_whole_and_favour_short_ones() -> None:
    draws = [drawn_prefixes(1000, n_prefixes=5, draw=draw) for draw in range(300)]
    assert drawn_prefixes(1000, n_prefixes=5, draw=3) == draws[3]
    for sizes in draws:
        assert len(set(sizes)) == 5
        assert list(sizes) == sorted(sizes)
        assert sizes[-1] == 1000
    shorter = torch.tensor([sizes[:-1] for sizes in draws]).flatten().double()
    # P(size ≤ l) = √(l / n): a quarter lies below n/16, half below n/4.
    assert float((shorter <= 62).double().mean()) == pytest.approx(0.25, abs=0.05)
    assert float((shorter <= 250).double().mean()) == pytest.approx(0.5, abs=0.05)


def test_the_reported_figures_of_multi_topk_are_those_of_k() -> None:
    multi = build_sae("topk", d_in=16, n_latents=48, k=4, multi=True)
    plain = build_sae("topk", d_in=16, n_latents=48, k=4)
    one, two = multi.loss(_x(), Objective(16.0)), plain.loss(_x(), Objective(16.0))
    torch.testing.assert_close(one.fvu, two.fvu)
    assert float(one.n_active) == float(two.n_active)
    assert torch.equal(one.counts, two.counts)
    assert float(one.total.detach()) > float(two.total.detach())


def test_a_threshold_can_be_chosen_and_is_not_shared() -> None:
    sae = build_sae("batch_topk", d_in=16, n_latents=48, k=4)
    low, high = sae.with_threshold(0.1), sae.with_threshold(2.0)
    assert int(low.encode(_x()).l0().sum()) > int(high.encode(_x()).l0().sum())
    with pytest.raises(NotFittedError, match="never set"):
        sae.encode(_x())
    with pytest.raises(ConfigError, match="a topk SAE has no inference threshold"):
        build_sae("topk", d_in=16, n_latents=48, k=4).with_threshold(1.0)


def test_jumprelu_form_is_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match="a topk SAE cannot be written as JumpReLU"):
        to_jumprelu(build_sae("topk", d_in=4, n_latents=8, k=2))
    with pytest.raises(ConfigError, match="matryoshka with selection batch_topk"):
        to_jumprelu(build_sae("matryoshka", d_in=4, n_latents=8, k=2, selection="topk"))
    with pytest.raises(NotFittedError, match="no threshold yet"):
        to_jumprelu(build_sae("batch_topk", d_in=4, n_latents=8, k=2))
