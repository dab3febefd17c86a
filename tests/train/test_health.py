"""The health report against planted answers: every figure is known before it is measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saetools.errors import ConfigError, FormatError, ShapeError
from saetools.sae import SAE, build_sae
from saetools.sae.archs.topk import TopK
from saetools.store import ActivationStore
from saetools.train import HealthReport, health_report
from saetools.train.health import weights
from saetools.train.health.weights import Spread, find_duplicates

StoreMaker = Callable[..., ActivationStore]
D = 8


def _axes(arch: str = "topk", n_latents: int = D, **fields: object) -> SAE:
    """An SAE whose latent i reads and writes axis i; a latent beyond the axes never fires."""
    sae = build_sae(arch, d_in=D, n_latents=n_latents, k=2, **fields)
    rows = torch.zeros(n_latents, D)
    for i in range(n_latents):
        rows[i, i % D] = 1.0
    bias = torch.where(torch.arange(n_latents) < D, 0.0, -1e6)
    state = {**sae.state_dict(), "W_dec": rows, "W_enc_rows": rows, "b_enc": bias}
    sae.load_state_dict(state)
    if hasattr(sae, "threshold"):
        sae.threshold.fill_(0.5)
    return sae.requires_grad_(False)


def _pairs(n: int, *, third: float = 0.0) -> torch.Tensor:
    """Row i is 2 on axis i mod 4 and 3 on the next; `third` more on axis 7."""
    x = torch.zeros(n, D)
    rows = torch.arange(n)
    x[rows, rows % 4] = 2.0
    x[rows, (rows + 1) % 4] = 3.0
    x[:, 7] = third
    return x


def test_a_perfect_sae_has_no_error_and_known_use(make_store: StoreMaker) -> None:
    report = health_report(_axes(), make_store(_pairs(3200)))
    assert report.fvu == pytest.approx(0, abs=1e-12)
    assert report.l0 == 2
    assert report.l0_quantiles == (2, 2, 2, 2, 2)
    assert report.dead_fraction == 0.5  # axes 4 to 7 are never used
    assert report.dense_fraction == 0.5  # axes 0 to 3 on every other token
    assert report.about["split"] == "held_out"
    assert report.n_tokens == 640


def test_fvu_is_the_error_over_the_variance_around_the_mean(make_store: StoreMaker) -> None:
    x = torch.randn(3200, D, generator=torch.Generator().manual_seed(0)) + 100.0
    store = make_store(x, held_out_fraction=0.0)
    sae = _axes()
    report = health_report(sae, store, n_tokens=3200)
    seen = torch.cat(list(store.batches(1024, seed=0)))  # what it read; a part batch is left out
    error = (sae(seen) - seen).double().square().sum()
    variance = (seen.double() - seen.double().mean(0)).square().sum()
    assert len(seen) == report.n_tokens
    assert report.fvu == pytest.approx(float(error / variance), rel=1e-6)
    assert report.about["split"] == "train"


def test_l0_quantiles_are_those_of_the_tokens(make_store: StoreMaker) -> None:
    counts = torch.arange(3200) % 8 + 1  # 1 to 8 active axes, equally often
    x = (torch.arange(D) < counts[:, None]).float() * 2.0
    store = make_store(x, held_out_fraction=0.0, doc_len=8)
    report = health_report(_axes("batch_topk"), store, n_tokens=100_000)
    seen = torch.cat(list(store.batches(1024, seed=0)))
    l0 = (seen > 0).sum(1).double().numpy()
    wanted = [np.quantile(l0, q / 100, method="inverted_cdf") for q in (5, 25, 50, 75, 95)]
    assert list(report.l0_quantiles) == wanted
    assert report.l0 == pytest.approx(l0.mean())


def test_each_width_has_its_own_fvu_l0_and_dead_latents(make_store: StoreMaker) -> None:
    sae = _axes("matryoshka", 16, widths=(2, 4, 16))
    report = health_report(sae, make_store(_pairs(3200)))
    two, four, all_of_them = report.widths
    assert (two.width, four.width, all_of_them.width) == (2, 4, 16)
    assert four.fvu == pytest.approx(0, abs=1e-12)
    # Two axes are lost: 2 · (2² + 3²) / 4 of a variance of 4 · ((2² + 3²) / 4 − (5 / 4)²).
    assert two.fvu == pytest.approx(26 / 27)
    assert (two.l0, four.l0, all_of_them.l0) == (pytest.approx(1, abs=0.01), 2, 2)
    assert (two.dead_fraction, four.dead_fraction, all_of_them.dead_fraction) == (0, 0, 1)
    assert report.values["dead_fraction_at_16"] == 1
    assert any("latents 4 to 15" in text for text in report.warnings)


class _Transcoder(TopK):
    """Reads one hook and reconstructs another."""

    @property
    def target_hook_name(self) -> str:
        return "out"


def test_what_is_reconstructed_may_be_another_hook_than_what_is_read(
    make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = _pairs(3200)
    read, wanted = make_store(x, name="in.h5"), make_store(x + 1.0, name="out.h5")
    monkeypatch.setattr(type(read), "width", lambda self, hook=None: D)
    monkeypatch.setattr(read, "moments", lambda hook: wanted.moments())
    plain = read.batches

    def batches(size: int, *, hook_name: str | None = None, **rest: Any) -> Any:
        return wanted.batches(size, **rest) if hook_name == "out" else plain(size, **rest)

    monkeypatch.setattr(read, "batches", batches)
    made = _axes()
    sae = _Transcoder(made.config)
    sae.load_state_dict(made.state_dict())
    # Off by 1 on each of eight axes: 8 over the variance of the target, 6.75.
    assert health_report(sae, read).fvu == pytest.approx(8 / 6.75)
    sae.b_dec.data.fill_(1.0)
    sae.b_enc.data.fill_(1.0)  # takes back what the decoder's bias does to the encoder
    assert health_report(sae, read).fvu == pytest.approx(0, abs=1e-12)


def test_only_as_many_rows_are_read_as_are_asked_for(
    make_store: StoreMaker,
) -> None:
    store = make_store(_pairs(3200))
    assert health_report(_axes(), store, n_tokens=100).n_tokens == 100
    with pytest.raises(ConfigError, match="at least 1; got 0"):
        health_report(_axes(), store, n_tokens=0)


def test_the_sae_and_its_store_must_fit(tiny_store: ActivationStore) -> None:
    with pytest.raises(ShapeError, match=r"width 8.*width 16"):
        health_report(_axes(), tiny_store)


def test_huge_rows_are_found_and_the_advice_names_the_setting(make_store: StoreMaker) -> None:
    x = _pairs(3200, third=0.1)
    x[::100] *= 1000
    report = health_report(_axes(), make_store(x, held_out_fraction=0.0))
    assert report.massive_fraction == pytest.approx(0.01, abs=0.003)
    assert report.activation_norms.outlier_fraction == report.massive_fraction
    assert any("harvest.max_norm_multiple" in text for text in report.warnings)


def test_warnings_say_what_was_found_and_what_to_do(make_store: StoreMaker) -> None:
    store = make_store(_pairs(3200))
    dead = health_report(_axes(n_latents=32), store)  # 28 of 32 never fire
    (text,) = [text for text in dead.warnings if text.startswith("dead_fraction")]
    assert "dead_fraction 0.88" in text
    assert "raise train.aux_coefficient" in text
    assert any("duplicate_fraction" in text for text in dead.warnings)  # rows 8 on repeat 0 to 7
    wrong = _axes("batch_topk")
    wrong.threshold.fill_(2.5)  # type: ignore[operator]
    assert any(
        text.startswith("l0 1 where k is 2") and "calibrate" in text
        for text in health_report(wrong, store).warnings
    )


def test_a_healthy_sae_has_no_warnings(make_store: StoreMaker) -> None:
    x = _pairs(3200)
    x[1600:] = x[1600:].roll(4, dims=1)  # all axes are used
    order = torch.randperm(3200, generator=torch.Generator().manual_seed(0))
    assert health_report(_axes(), make_store(x[order])).warnings == ()


def test_a_report_that_was_saved_is_read_back_the_same(
    make_store: StoreMaker, tmp_path: Path
) -> None:
    sae = _axes("matryoshka", 16, widths=(2, 4, 16))
    report = health_report(sae, make_store(_pairs(3200)))
    assert HealthReport.load(report.save(tmp_path / "health.json")) == report
    content = json.loads((tmp_path / "health.json").read_text())
    for damage in ({"format": "saetools-health/2"}, {"widths": 3}, {"unknown": 1}):
        (tmp_path / "bad.json").write_text(json.dumps({**content, **damage}))
        with pytest.raises(FormatError):
            HealthReport.load(tmp_path / "bad.json")


def test_html_escapes_what_it_shows(make_store: StoreMaker) -> None:
    report = health_report(_axes(n_latents=32), make_store(_pairs(3200)))
    object.__setattr__(report, "warnings", ("<b>",))
    shown = report._repr_html_()
    assert "<li>&lt;b&gt;</li>" in shown
    assert "dead_fraction" in shown


def test_measuring_changes_no_weight(make_store: StoreMaker) -> None:
    sae = _axes("batch_topk")
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    health_report(sae, make_store(_pairs(3200)))
    assert all(torch.equal(before[name], tensor) for name, tensor in sae.state_dict().items())


@pytest.mark.parametrize("all_pairs", [True, False])
def test_duplicates_are_those_that_were_planted(
    all_pairs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    rows[100] = 3 * rows[7]  # the same direction, another length
    rows[200] = rows[8] + 0.01 * rows[9]
    rows[50] = -rows[10]  # the opposite direction is another feature
    monkeypatch.setattr(weights, "_BLOCK_VALUES", 1000)  # blocks of three rows
    if not all_pairs:
        monkeypatch.setattr(weights, "ALL_PAIRS_UP_TO", 200)
    found = find_duplicates(rows)
    if all_pairs:
        assert found.n_compared == 300
        assert found.n_pairs == 2
        assert found.fraction == pytest.approx(4 / 300)
        assert {(a, b) for a, b, _ in found.closest} == {(7, 100), (8, 200)}
    else:
        assert found.n_compared == 200 * 200 // 300
        assert {(a, b) for a, b, _ in found.closest} <= {(7, 100), (8, 200)}


def test_rows_that_are_all_alike_are_counted_and_ten_pairs_shown() -> None:
    found = find_duplicates(torch.ones(40, 4))
    assert (found.fraction, found.n_pairs) == (1.0, 40 * 39 // 2)
    assert len(found.closest) <= 10


def test_one_latent_has_no_duplicate() -> None:
    assert find_duplicates(torch.ones(1, 4)).fraction == 0


def test_fences_are_three_quartile_ranges_out() -> None:
    values = torch.cat([torch.arange(1.0, 101.0), torch.tensor([500.0])])
    found = Spread.of(values)
    assert found.median == 51
    assert (found.low_fence, found.high_fence) == (26 - 150, 76 + 150)
    assert found.outlier_fraction == pytest.approx(1 / 101)
    assert (found.smallest, found.largest) == (1, 500)


def test_rows_of_one_length_have_no_outliers() -> None:
    rows = torch.nn.functional.normalize(torch.randn(1000, 64), dim=1)
    assert Spread.of(rows.norm(dim=1)).outlier_fraction == 0
