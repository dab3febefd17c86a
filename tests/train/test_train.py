"""Training: known answers, exact resume, and nothing that logging or interruption could change."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from saetools.errors import ConfigError, ShapeError
from saetools.sae import SAE, Affine, build_sae
from saetools.store import ActivationStore
from saetools.train import TrainConfig, calibrate, read_metrics, train
from saetools.train.scales import Scales
from saetools.train.state import TrainState, step

SHORT = TrainConfig(n_tokens=20_000, batch_tokens=500, log_tokens=2000, checkpoint_tokens=4000)


def _planted(n: int, n_directions: int = 64, d: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that are sparse sums of known unit directions (card 01, test 1)."""
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(n_directions, d, generator=g), dim=1)
    on = torch.rand(n, n_directions, generator=g) < 0.05
    size = 0.5 + torch.rand(n, n_directions, generator=g)
    noise = 0.01 * torch.randn(n, d, generator=g)
    return (on * size) @ directions + noise, directions


def _equal(a: SAE, b: SAE) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", ["topk", "batch_topk", "matryoshka"])
def test_planted_directions_are_recovered(name: str, make_store) -> None:  # type: ignore[no-untyped-def]
    x, directions = _planted(60_000)
    store = make_store(x)
    sae = build_sae(name, d_in=32, n_latents=64, k=4)
    config = TrainConfig(n_tokens=1_500_000, batch_tokens=1000, lr=3e-3, dead_after_tokens=50_000)
    trained = train(sae, store, config)
    cosine = (trained.W_dec @ directions.T).abs().detach().numpy()
    pairs = linear_sum_assignment(-cosine)
    # Matryoshka pays for its prefixes: here no latent is more general than another.
    assert cosine[pairs].mean() > (0.8 if name == "matryoshka" else 0.94)


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    tiny_store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = build_sae("matryoshka", d_in=16, n_latents=48, k=4)
    whole = train(sae, tiny_store, SHORT, out=tmp_path / "whole")
    taken = 0

    def dying_step(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal taken
        taken += 1
        if taken == 22:
            raise SystemError("the power goes")
        return step(*args, **kwargs)

    monkeypatch.setattr("saetools.train.loop.step", dying_step)
    with pytest.raises(SystemError):
        train(sae, tiny_store, SHORT, out=tmp_path / "parts")
    assert not (tmp_path / "parts" / "sae").exists()
    resumed = train(sae, tiny_store, SHORT, out=tmp_path / "parts")
    assert taken == 22 + SHORT.n_steps - 16, "the checkpoint at step 16 was used"
    assert _equal(whole, resumed)
    columns = [
        [
            {k: v for k, v in row.items() if k != "tokens_per_second"}
            for row in read_metrics(tmp_path / name / "metrics.jsonl")
        ]
        for name in ("whole", "parts")
    ]
    assert columns[0] == columns[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_at_a_step_and_the_run_goes_on_from_there(
    number: int, tiny_store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = build_sae("topk", d_in=16, n_latents=48, k=4)
    taken = 0

    def signalled_step(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal taken
        taken += 1
        if taken == 5:
            os.kill(os.getpid(), number)
        return step(*args, **kwargs)

    monkeypatch.setattr("saetools.train.loop.step", signalled_step)
    with pytest.raises(KeyboardInterrupt, match="after step 5 of 40"):
        train(sae, tiny_store, SHORT, out=tmp_path)
    resumed = train(sae, tiny_store, SHORT, out=tmp_path)
    assert taken == SHORT.n_steps
    assert _equal(resumed, train(sae, tiny_store, SHORT))


def test_logging_and_checkpoints_do_not_change_training(
    tiny_store: ActivationStore, tmp_path: Path
) -> None:
    sae = build_sae("batch_topk", d_in=16, n_latents=48, k=4)
    quiet = train(sae, tiny_store, SHORT)
    loud = SHORT.model_copy(update={"log_tokens": 500, "checkpoint_tokens": 500})
    assert _equal(quiet, train(sae, tiny_store, loud, out=tmp_path))


def test_a_finished_run_is_returned_and_another_is_refused(
    tiny_store: ActivationStore, tmp_path: Path
) -> None:
    sae = build_sae("topk", d_in=16, n_latents=48, k=4)
    first = train(sae, tiny_store, SHORT, out=tmp_path)
    assert _equal(first, train(sae, tiny_store, SHORT, out=tmp_path))
    other = SHORT.model_copy(update={"lr": 0.01})
    with pytest.raises(ConfigError, match="another run"):
        train(sae, tiny_store, other, out=tmp_path)


def test_a_checkpoint_of_other_settings_is_refused(
    tiny_store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = build_sae("topk", d_in=16, n_latents=48, k=4)
    with monkeypatch.context() as patch:
        patch.setattr("saetools.train.member.calibrate", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(sae, tiny_store, SHORT, out=tmp_path)
    with pytest.raises(ConfigError, match="checkpoint of another run"):
        train(sae, tiny_store, SHORT.model_copy(update={"seed": 1}), out=tmp_path)


def test_the_threshold_meets_the_target_l0_on_held_out_rows(make_store) -> None:  # type: ignore[no-untyped-def]
    x, _ = _planted(60_000)
    store = make_store(x)
    sae = train(
        build_sae("batch_topk", d_in=32, n_latents=64, k=4),
        store,
        TrainConfig(n_tokens=200_000, batch_tokens=1000),
    )
    away = torch.cat([batch.x for batch in store.stream(split="held_out")])
    l0 = float(sae.encode(away).l0().float().mean())
    assert l0 == pytest.approx(4, rel=0.02)
    assert torch.equal(calibrate(sae, store).threshold, sae.threshold)  # type: ignore[attr-defined]


def test_the_scale_of_the_data_does_not_matter(make_store) -> None:  # type: ignore[no-untyped-def]
    x, _ = _planted(8000)
    config = TrainConfig(n_tokens=100_000, batch_tokens=1000)
    fvus = []
    for index, factor in enumerate((1.0, 10.0)):
        store = make_store(x * factor, name=f"{index}.h5")
        sae = train(build_sae("topk", d_in=32, n_latents=64, k=4), store, config)
        error = (sae(x * factor) - x * factor).square().sum()
        fvus.append(float(error / (x * factor - (x * factor).mean(0)).square().sum()))
    assert fvus[0] == pytest.approx(fvus[1], rel=0.01)


def test_decoder_rows_keep_unit_norm_and_their_gradient_is_orthogonal(
    tiny_store: ActivationStore,
) -> None:
    state = TrainState.fresh(build_sae("topk", d_in=16, n_latents=48, k=4), SHORT)
    for index, x in enumerate(tiny_store.batches(500, seed=0)):
        before = state.sae.W_dec.detach().clone()
        step(state, x, SHORT, Scales(Affine(), Affine(), 16.0))
        norms = state.sae.W_dec.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-5, rtol=0)
        if index == 0:  # later moments mix gradients that were orthogonal to earlier rows
            grad = state.optimizer.moments["W_dec"][0]
            along = (grad * before).sum(1).abs()
            assert bool((along < 1e-5 * grad.norm(dim=1) + 1e-12).all())


def test_the_input_sae_is_not_changed(tiny_store: ActivationStore) -> None:
    sae = build_sae("topk", d_in=16, n_latents=48, k=4)
    before = sae.W_dec.clone()
    train(sae, tiny_store, SHORT)
    assert torch.equal(before, sae.W_dec)
    assert sae.meta == {}


def test_another_width_is_refused_before_anything_is_written(
    tiny_store: ActivationStore, tmp_path: Path
) -> None:
    with pytest.raises(ShapeError, match=r"width 8.*width 16"):
        train(build_sae("topk", d_in=8, n_latents=48, k=4), tiny_store, SHORT, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_divergence_stops_with_the_step(tiny_store: ActivationStore, tmp_path: Path) -> None:
    config = SHORT.model_copy(update={"lr": 1e30})
    with pytest.raises(ConfigError, match=r"diverged.*lower train\.lr"):
        train(build_sae("topk", d_in=16, n_latents=48, k=4), tiny_store, config, out=tmp_path)
    assert not (tmp_path / "sae").exists()


def test_metrics_rows_are_json_with_the_promised_keys(
    tiny_store: ActivationStore, tmp_path: Path
) -> None:
    train(build_sae("topk", d_in=16, n_latents=48, k=4), tiny_store, SHORT, out=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    keys = {"step", "n_tokens", "loss", "fvu", "l0", "dead_fraction", "lr", "tokens_per_second"}
    assert all(set(row) == keys for row in rows)
    assert rows[-1]["step"] == SHORT.n_steps
    assert rows[-1]["fvu"] < rows[0]["fvu"]
