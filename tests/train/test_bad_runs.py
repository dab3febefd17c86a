"""Runs that cannot go well end with one sentence, and what was good is kept."""

from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch

from saetools.errors import ConfigError, HookNotFoundError, StoreError
from saetools.sae import build_sae
from saetools.store import ActivationStore
from saetools.train import TrainConfig, state, train

StoreMaker = Callable[..., ActivationStore]
SHORT = TrainConfig(n_tokens=20_000, batch_tokens=500, log_tokens=2000, checkpoint_tokens=1000)


def _sae():  # type: ignore[no-untyped-def]
    return build_sae("topk", d_in=16, n_latents=48, k=4)


def test_a_hook_that_is_not_there_is_named(tiny_store: ActivationStore) -> None:
    with pytest.raises(HookNotFoundError, match="resid_post"):
        train(_sae(), tiny_store, SHORT, hook_name="blocks.9.hook_resid_post")


def test_rows_of_nan_stop_training_with_their_batch(make_store: StoreMaker) -> None:
    store = make_store(torch.randn(4000, 16))
    path = store.path
    store.close()
    with h5py.File(path, "r+") as file:
        file["activations/blocks.0.hook_resid_post"][100:300] = float("nan")
    with (
        ActivationStore.open(path) as damaged,
        pytest.raises(StoreError, match=r"NaN or infinite activations at blocks\.0.*store verify"),
    ):
        train(_sae(), damaged, SHORT)


def test_a_constant_store_is_refused(make_store: StoreMaker) -> None:
    with pytest.raises(StoreError, match="the same vector"):
        train(_sae(), make_store(torch.ones(2000, 16)), SHORT)


def test_divergence_keeps_the_last_good_checkpoint_and_names_the_step(
    tiny_store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adam_step = state.RowAdam.step

    def breaking(self, sae, gradients, *, lr, **more):  # type: ignore[no-untyped-def]
        adam_step(self, sae, gradients, lr=1e30 if self.n_steps_done == 12 else lr, **more)

    monkeypatch.setattr(state.RowAdam, "step", breaking)
    with pytest.raises(
        ConfigError, match=r"at step 14 .*diverged; the checkpoint .* is from before"
    ):
        train(_sae(), tiny_store, SHORT, out=tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "sae").exists()
    good = train(_sae(), tiny_store, SHORT, out=tmp_path)
    whole = train(_sae(), tiny_store, SHORT)
    assert torch.equal(good.W_dec, whole.W_dec), "it went on from step 12, before the break"


def test_a_store_that_changed_since_the_checkpoint_is_refused(
    make_store: StoreMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = torch.Generator().manual_seed(0)
    first = make_store(torch.randn(4000, 16, generator=g), name="first.h5")
    second = make_store(torch.randn(4000, 16, generator=g), name="second.h5")
    with monkeypatch.context() as patch:
        patch.setattr("saetools.train.member.calibrate", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(_sae(), first, SHORT, out=tmp_path)
    with pytest.raises(ConfigError, match=r"checkpoint of another run \(store: has"):
        train(_sae(), second, SHORT, out=tmp_path)


def test_how_a_run_is_watched_may_change_when_it_goes_on(
    tiny_store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("saetools.train.member.calibrate", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(_sae(), tiny_store, SHORT, out=tmp_path)
    watched = SHORT.model_copy(update={"log_tokens": 500, "checkpoint_tokens": 500})
    resumed = train(_sae(), tiny_store, watched, out=tmp_path)
    assert torch.equal(resumed.W_dec, train(_sae(), tiny_store, SHORT).W_dec)
