"""Selection rules against a plain sort of the whole pre-activation matrix."""

from typing import Any

import pytest
import torch

from saetools.sae import selection
from saetools.sae.selection import (
    Encoder,
    Selection,
    select_above,
    select_batch_topk,
    select_topk,
)


def _inputs(n: int = 50, d: int = 12, n_latents: int = 40) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(n)
    return (
        torch.randn(n, d, generator=g),
        torch.randn(n_latents, d, generator=g),
        torch.randn(n_latents, generator=g),
    )


def _dense(chosen: Selection, n_latents: int) -> torch.Tensor:
    return chosen.padded(n_latents).dense()


@pytest.mark.parametrize("k", [1, 5, 40, 99])
def test_topk_keeps_the_k_largest_of_each_token(k: int) -> None:
    x, weight, bias = _inputs()
    pre_acts = x @ weight.T + bias
    kept = select_topk(x, Encoder(weight, bias), k=k).dense()
    order = pre_acts.sort(dim=1, descending=True).indices[:, :k]
    expected = torch.zeros_like(pre_acts).scatter(1, order, pre_acts.gather(1, order).relu())
    torch.testing.assert_close(kept, expected)


@pytest.mark.parametrize("hint", [None, 0.01, 1.0, 50.0])
def test_batch_topk_is_exact_whatever_the_hint(hint: float | None) -> None:
    x, weight, bias = _inputs()
    pre_acts = x @ weight.T + bias
    chosen = select_batch_topk(x, Encoder(weight, bias), k=4, hint=hint)
    cut = pre_acts.relu().flatten().sort(descending=True).values[4 * len(x) - 1]
    assert len(chosen.values) == 4 * len(x)
    torch.testing.assert_close(_dense(chosen, 40), pre_acts * (pre_acts >= cut))


def test_a_first_batch_keeps_few_candidates_and_chooses_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1100, 8, generator=generator), torch.randn(300, 8, generator=generator)
    encoder, kept = Encoder(weight, torch.zeros(300)), []

    def counted(*args: Any, **settings: Any) -> Selection:
        found = select_above(*args, **settings)
        kept.append(len(found.values))
        return found

    exact = select_batch_topk(x, encoder, k=4, hint=1e-9)
    monkeypatch.setattr(selection, "select_above", counted)
    chosen = select_batch_topk(x, encoder, k=4)
    assert max(kept) < 300 * 1100 / 10  # half of all are positive
    for mine, wanted in zip(chosen, exact, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=0)


def test_batch_topk_breaks_ties_towards_the_first_and_keeps_the_budget() -> None:
    x = torch.ones(6, 2)
    chosen = select_batch_topk(x, Encoder(torch.ones(5, 2), torch.zeros(5)), k=2)
    assert chosen.rows.tolist() == [0] * 5 + [1] * 5 + [2] * 2
    assert chosen.latents.tolist() == [*range(5), *range(5), 0, 1]


def test_batch_topk_takes_fewer_when_fewer_are_positive() -> None:
    x, weight, bias = _inputs()
    chosen = select_batch_topk(x, Encoder(weight, bias - 100), k=4)
    assert len(chosen.values) == 0
    assert chosen.n_tokens == len(x)
    assert chosen.padded(40).dense().abs().sum() == 0


def test_above_a_threshold_is_the_jump_of_the_dense_matrix() -> None:
    x, weight, bias = _inputs()
    pre_acts = x @ weight.T + bias
    chosen = select_above(x, Encoder(weight, bias), threshold=1.5)
    torch.testing.assert_close(_dense(chosen, 40), pre_acts * (pre_acts > 1.5))
    negative = select_above(x, Encoder(weight, bias), threshold=-3.0)
    assert bool((negative.values > 0).all()), "a latent is never negative"


def test_chunks_do_not_change_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = _inputs(n=300)
    whole = select_above(x, Encoder(weight, bias), threshold=0.5)
    monkeypatch.setattr("saetools.sae.selection._CHUNK_BYTES", 1)
    parts = select_above(x, Encoder(weight, bias), threshold=0.5)
    assert torch.equal(whole.latents, parts.latents)
    assert torch.equal(whole.rows, parts.rows)


def test_a_threshold_for_each_latent_is_its_own() -> None:
    x, weight, bias = _inputs()
    pre_acts = x @ weight.T + bias
    thresholds = torch.linspace(-1, 2, 40)
    chosen = select_above(x, Encoder(weight, bias), threshold=thresholds)
    torch.testing.assert_close(_dense(chosen, 40), pre_acts * (pre_acts > thresholds.clamp_min(0)))


@pytest.mark.parametrize("rule", ["topk", "batch_topk"])
def test_a_rough_product_selects_and_exact_values_are_kept(rule: str) -> None:
    x, weight, bias = _inputs()
    pre_acts = x @ weight.T + bias
    rough = Encoder(weight, bias, torch.bfloat16)
    if rule == "topk":
        kept = select_topk(x, rough, k=4).dense()
    else:
        kept = _dense(select_batch_topk(x, rough, k=4), 40)
    on = kept != 0
    assert 0.97 * 4 * len(x) <= int(on.sum()) <= 4 * len(x)
    torch.testing.assert_close(kept[on], pre_acts[on])
