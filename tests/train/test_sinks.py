"""Where training figures go: the same rows everywhere, after a kill too; no number changes."""

import csv
import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from saetools import progress
from saetools.errors import ConfigError, UnknownNameError
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore
from saetools.train import TrainConfig, read_metrics, train, train_many
from saetools.train.sink import SINKS
from saetools.train.state import step

SHORT = TrainConfig(n_tokens=20_000, batch_tokens=500, log_tokens=2000, checkpoint_tokens=4000)


def _fresh() -> SAE:
    return build_sae("batch_topk", d_in=16, n_latents=48, k=4)


def _equal(a: SAE, b: SAE) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def _with(config: TrainConfig, **fields: Any) -> TrainConfig:
    return TrainConfig(**{**config.model_dump(), **fields})


def _csv(path: Path) -> list[dict[str, float | None]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) if v else None for k, v in row.items()} for row in rows]


def _die_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    taken = 0

    def dying_step(*args: Any, **kwargs: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == number:
            raise SystemError("the power goes")
        return step(*args, **kwargs)

    monkeypatch.setattr("saetools.train.loop.step", dying_step)


class _Writer:
    """Stands for torch.utils.tensorboard.SummaryWriter."""

    made: list["_Writer"]

    def __init__(self, log_dir: str, purge_step: int) -> None:
        self.log_dir, self.purge_step, self.closed = log_dir, purge_step, False
        self.points: list[tuple[str, float, int]] = []
        self.made.append(self)

    def add_scalar(self, name: str, value: float, n: int) -> None:
        self.points.append((name, value, n))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> list[_Writer]:
    """A tensorboard that keeps what it is given; the list of its writers."""
    package, module = ModuleType("tensorboard"), ModuleType("torch.utils.tensorboard")
    package.__spec__ = ModuleSpec("tensorboard", None)
    _Writer.made = []
    module.SummaryWriter = _Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboard", package)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return _Writer.made


def test_csv_and_jsonl_hold_the_same_rows(tiny_store: ActivationStore, tmp_path: Path) -> None:
    train(_fresh(), tiny_store, SHORT, out=tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert len(rows) == 10
    assert _csv(tmp_path / "metrics.csv") == rows


@pytest.mark.parametrize("log_tokens", [500, 1500, 100_000])
def test_no_sink_and_no_interval_changes_a_weight(
    log_tokens: int, tiny_store: ActivationStore, tmp_path: Path, tensorboard: list[_Writer]
) -> None:
    plain = train(_fresh(), tiny_store, SHORT)
    loud = _with(SHORT, log_tokens=log_tokens, log_to=("tensorboard",))
    assert _equal(plain, train(_fresh(), tiny_store, loud, out=tmp_path))
    assert (tmp_path / "metrics.csv").stat().st_size > 0


def test_rows_of_steps_that_are_taken_again_are_cut_off_and_half_lines_left_out(
    tiny_store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(_fresh(), tiny_store, SHORT, out=whole)
    with monkeypatch.context() as patch:
        _die_at(patch, 22)  # rows at 4, 8 ... 20; the checkpoint is of step 16
        with pytest.raises(SystemError):
            train(_fresh(), tiny_store, SHORT, out=parts)
    assert [row["step"] for row in read_metrics(parts / "metrics.jsonl")] == [4, 8, 12, 16, 20]
    for name, half in (("metrics.jsonl", '{"step": 21, "n_to'), ("metrics.csv", "21,10500,0.")):
        with (parts / name).open("a") as file:
            file.write(half)
    train(_fresh(), tiny_store, SHORT, out=parts)
    kept = [
        [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows]
        for rows in (read_metrics(whole / "metrics.jsonl"), read_metrics(parts / "metrics.jsonl"))
    ]
    assert kept[0] == kept[1]
    assert _csv(parts / "metrics.csv") == read_metrics(parts / "metrics.jsonl")


def test_rows_stand_at_the_same_steps_after_a_stop_between_two_rows(
    tiny_store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _with(SHORT, log_tokens=3000)  # every 6 steps; checkpoints every 8
    with monkeypatch.context() as patch:
        _die_at(patch, 10)
        with pytest.raises(SystemError):
            train(_fresh(), tiny_store, config, out=tmp_path)
    train(_fresh(), tiny_store, config, out=tmp_path)
    steps = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert steps == [6, 12, 18, 24, 30, 36, 40]


def test_a_figure_that_is_not_finite_is_null_and_an_empty_cell(
    tiny_store: ActivationStore, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="diverged"):
        train(_fresh(), tiny_store, _with(SHORT, lr=1e30, log_tokens=500), out=tmp_path)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["loss"] is None
    assert _csv(tmp_path / "metrics.csv")[-1]["loss"] is None


def test_tensorboard_is_given_every_figure_and_forgets_steps_that_are_taken_again(
    tiny_store: ActivationStore,
    tmp_path: Path,
    tensorboard: list[_Writer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = _with(SHORT, log_to=("tensorboard",))
    with monkeypatch.context() as patch:
        _die_at(patch, 22)
        with pytest.raises(SystemError):
            train(_fresh(), tiny_store, config, out=tmp_path)
    train(_fresh(), tiny_store, config, out=tmp_path)
    first, second = tensorboard
    assert (first.purge_step, second.purge_step) == (1, 17)
    assert first.closed
    assert second.closed
    rows = read_metrics(tmp_path / "metrics.jsonl")
    for name in ("fvu", "l0", "lr", "dead_fraction"):
        points = {n: value for tag, value, n in second.points if tag == f"train/{name}"}
        assert points == {row["step"]: row[name] for row in rows if row["step"] > 16}


def test_the_real_tensorboard_reads_what_was_written(
    tiny_store: ActivationStore, tmp_path: Path
) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("needs the package tensorboard, in the extra [tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(_fresh(), tiny_store, _with(SHORT, log_to=("tensorboard",)), out=tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    found = [(event.step, event.value) for event in events.Scalars("train/fvu")]
    assert [n for n, _ in found] == [row["step"] for row in rows]
    assert [value for _, value in found] == pytest.approx([row["fvu"] for row in rows])


def test_wandb_offline_logs_without_a_network_and_changes_no_weight(
    tiny_store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("needs the package wandb, in the extra [wandb]")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    plain = train(_fresh(), tiny_store, SHORT)
    out = tmp_path / "run"
    config = _with(SHORT, log_to=("wandb",))
    assert _equal(plain, train(_fresh(), tiny_store, config, out=out))
    (log,) = out.glob("wandb/offline-run-*/run-*.wandb")
    assert (out / "wandb_id").read_text().strip() in log.name
    assert b"tokens_per_second" in log.read_bytes()


class _Run:
    """Stands for a W&B run."""

    def __init__(self, **settings: Any) -> None:
        self.settings, self.rows, self.finished = settings, [], False

    def log(self, figures: dict[str, float], *, step: int) -> None:
        self.rows.append((step, figures))

    def finish(self) -> None:
        self.finished = True


def test_a_run_that_goes_on_is_the_same_run_at_wandb(
    tiny_store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[_Run] = []
    module = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)

    def init(**settings: Any) -> _Run:
        runs.append(_Run(**settings))
        return runs[-1]

    module.init = init  # type: ignore[attr-defined]
    module.Error = RuntimeError  # type: ignore[attr-defined]
    module.Settings = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    config = _with(SHORT, log_to=("wandb",))
    with monkeypatch.context() as patch:
        _die_at(patch, 22)
        with pytest.raises(SystemError):
            train(_fresh(), tiny_store, config, out=tmp_path)
    train(_fresh(), tiny_store, config, out=tmp_path)
    train(_fresh(), tiny_store, config, out=tmp_path, resume=False)
    first, second, third = (run.settings["id"] for run in runs)
    assert first == second != third
    assert all(run.finished for run in runs)
    assert [n for n, _ in runs[1].rows] == [20, 24, 28, 32, 36, 40]
    assert runs[0].settings["config"]["sae"]["k"] == 4


def test_a_missing_package_is_one_error_before_anything_is_written(
    tiny_store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saetools.train.sink.importlib.util.find_spec", lambda name: None)
    config = _with(SHORT, log_to=("wandb",))
    with pytest.raises(ConfigError, match=r'not installed; pip install "saetools\[wandb\]"'):
        train(_fresh(), tiny_store, config, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_sink_and_a_run_without_a_folder_are_refused(
    tiny_store: ActivationStore, tmp_path: Path, tensorboard: list[_Writer]
) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tensorboard'"):
        train(_fresh(), tiny_store, _with(SHORT, log_to=("tensorbord",)), out=tmp_path)
    with pytest.raises(ConfigError, match="has no folder"):
        train(_fresh(), tiny_store, _with(SHORT, log_to=("tensorboard",)))


def test_where_a_run_logs_to_is_no_part_of_what_it_is(
    tiny_store: ActivationStore, tmp_path: Path, tensorboard: list[_Writer]
) -> None:
    first = train(_fresh(), tiny_store, SHORT, out=tmp_path)
    again = train(_fresh(), tiny_store, _with(SHORT, log_to=("tensorboard",)), out=tmp_path)
    assert _equal(first, again)
    assert tensorboard == [], "the finished SAE was returned"


def test_the_sinks_are_the_files_of_their_folder() -> None:
    assert SINKS.names() == ["csv", "jsonl", "tensorboard", "wandb"]


def test_saes_that_are_trained_together_have_files_and_live_rows_of_their_own(
    tiny_store: ActivationStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saes = {name: build_sae(name, d_in=16, n_latents=48, k=4) for name in ("topk", "batch_topk")}
    with progress.use("plain"):
        train_many(saes, tiny_store, SHORT, out=tmp_path)
    (line,) = (x for x in capsys.readouterr().err.splitlines() if "train" in x and "40/40" in x)
    for name in saes:
        rows = read_metrics(tmp_path / name / "metrics.jsonl")
        assert len(rows) == 10
        assert _csv(tmp_path / name / "metrics.csv") == rows
        assert f"{name}: fvu {rows[-1]['fvu']:.4g}" in line
