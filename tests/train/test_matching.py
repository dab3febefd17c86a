"""Stability: a permuted copy agrees wholly, independent rows by chance, and chance is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from saetools.errors import ConfigError, FormatError, ShapeError
from saetools.sae import SAE, build_sae
from saetools.train import Stability, stability


def _sae(n_latents: int, *, seed: int, d_in: int = 32) -> SAE:
    return build_sae("topk", d_in=d_in, n_latents=n_latents, k=4, seed=seed)


def _with_rows(rows: torch.Tensor) -> SAE:
    sae = _sae(len(rows), seed=0, d_in=rows.shape[1])
    sae.load_state_dict({**sae.state_dict(), "W_dec": rows})
    return sae


@pytest.mark.parametrize("matching", ["hungarian", "nearest"])
def test_a_permuted_copy_agrees_wholly(matching: str) -> None:
    sae = _sae(300, seed=0)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    found = stability(sae, _with_rows(5 * sae.W_dec.detach()[order]), matching=matching)
    assert found.mean_cosine == pytest.approx(1, abs=1e-6)
    assert (found.matched_fraction_70, found.matched_fraction_90) == (1, 1)
    assert (found.matching, found.n_matched) == (matching, 300)


def _best_of_random(n: int, d: int) -> float:
    """E[max of n cosines with random directions]; (cos + 1) / 2 is Beta((d−1)/2, (d−1)/2)."""
    beta = stats.beta((d - 1) / 2, (d - 1) / 2)
    return float(integrate.quad(lambda c: 1 - beta.cdf((c + 1) / 2) ** n, -1, 1)[0]) - 1


def test_independent_rows_agree_by_chance_which_is_known() -> None:
    found = stability(_sae(1000, seed=0), _sae(1000, seed=1), matching="nearest")
    assert found.mean_cosine == pytest.approx(_best_of_random(1000, 32), abs=0.01)
    exact = stability(_sae(1000, seed=0), _sae(1000, seed=1))
    assert exact.matching == "hungarian"
    assert 0.3 < exact.mean_cosine < found.mean_cosine
    assert exact.matched_fraction_90 == 0


def test_half_a_dictionary_in_common_is_half_matched() -> None:
    a, b = _sae(200, seed=0, d_in=64), _sae(200, seed=1, d_in=64)
    mixed = torch.cat([b.W_dec.detach()[:100], a.W_dec.detach()[:100]])
    found = stability(a, _with_rows(mixed))
    assert found.matched_fraction_90 == 0.5
    assert found.matched_fraction_70 == 0.5


def test_no_partner_is_shared() -> None:
    """Two rows want the same partner; one of them has to take what is left."""
    a = torch.tensor([[1.0, 0.0], [0.96, 0.28]])
    b = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = stability(_with_rows4(a), _with_rows4(b), matching="hungarian")
    assert found.mean_cosine == pytest.approx((1 + 0.28) / 2)
    shared = stability(_with_rows4(a), _with_rows4(b), matching="nearest")
    assert shared.mean_cosine == pytest.approx((1 + 0.96) / 2)


def _with_rows4(rows: torch.Tensor) -> SAE:
    sae = build_sae("topk", d_in=2, n_latents=len(rows), k=1)
    sae.load_state_dict({**sae.state_dict(), "W_dec": rows})
    return sae


def test_a_smaller_dictionary_is_matched_whole() -> None:
    a = _sae(200, seed=0)
    found = stability(a, _with_rows(a.W_dec.detach()[:50]))
    assert found.n_matched == 50
    assert found.mean_cosine == pytest.approx(1, abs=1e-6)
    assert stability(_with_rows(a.W_dec.detach()[:50]), a) == found


def test_large_dictionaries_are_matched_in_blocks_or_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("saetools.train.matching.MOST_LATENTS", 100)
    monkeypatch.setattr("saetools.train.matching._BLOCK_VALUES", 1000)
    a, b = _sae(120, seed=0), _sae(120, seed=1)
    best = (a.W_dec @ b.W_dec.T).max(1).values.detach().numpy()
    found = stability(a, b)
    assert found.matching == "nearest"
    assert found.mean_cosine == pytest.approx(float(np.mean(best)), abs=1e-6)
    with pytest.raises(ConfigError, match="matching='nearest'"):
        stability(a, b, matching="hungarian")


def test_another_width_is_refused() -> None:
    with pytest.raises(ShapeError, match="32 and 16"):
        stability(_sae(20, seed=0), _sae(20, seed=0, d_in=16))


def test_what_was_saved_is_read_back_the_same(tmp_path: Path) -> None:
    found = stability(_sae(20, seed=0), _sae(20, seed=1))
    assert Stability.load(found.save(tmp_path / "stability.json")) == found
    (tmp_path / "bad.json").write_text('{"format": "saetools-stability/1", "mean_cosine": 1}')
    with pytest.raises(FormatError, match="damaged"):
        Stability.load(tmp_path / "bad.json")
