"""`saetools train`: what it leaves in the run folder, says at the end, and refuses at the start."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from saetools.train import HealthReport

Cli = Callable[..., Result]


def test_the_health_of_the_sae_is_shown_and_stored(cli: Cli, trained: Path) -> None:
    result = cli("train", trained, "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    health = HealthReport.load(trained / "health.json")
    assert {row["figure"]: row["value"] for row in shown["table"]} == health.values
    assert health.about["split"] == "held_out"
    assert shown["text"].count("warning: ") == len(health.warnings)


def test_a_report_that_is_there_is_not_measured_again(
    cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saetools.train.health_report", lambda *a, **k: 1 / 0)
    assert cli("train", trained).exit_code == 0
    (trained / "health.json").unlink()
    assert isinstance(cli("train", trained).exception, ZeroDivisionError)


def test_where_figures_are_logged_does_not_make_another_run(cli: Cli, trained: Path) -> None:
    result = cli("train", trained, "train.log_to=[csv]", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["title"] == "the SAE was trained already"


def test_a_sink_that_does_not_exist_is_refused_before_training(
    cli: Cli, recipe: Path, trained: Path, files_of: Callable[[Path], dict[str, bytes]]
) -> None:
    before = files_of(trained)
    result = cli("train", trained, "train.log_to=[tensorbord]")
    assert result.exit_code == 1
    assert "did you mean 'tensorboard'" in result.stderr
    assert files_of(trained) == before
