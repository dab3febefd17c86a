"""`saetools evaluate`: one run or several side by side, as a table, JSON and a page."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Cli = Callable[..., Result]


@pytest.fixture
def pair(trained: Path, tmp_path: Path) -> tuple[Path, Path]:
    for name in ("a", "b"):
        shutil.copytree(trained, tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def test_several_runs_stand_side_by_side_in_table_json_and_page(
    cli: Cli, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    result = cli(
        "evaluate", *pair, "evaluate.metrics=[sparsity]", "--out", tmp_path / "report", "--json"
    )
    assert result.exit_code == 0, result.output
    rows = {row["figure"]: row for row in json.loads(result.stdout)["table"]}
    assert rows["l0"]["a"] == rows["l0"]["b"] > 0
    content = json.loads((tmp_path / "report.json").read_text())
    assert [report["name"] for report in content["reports"]] == ["a", "b"]
    assert (tmp_path / "report.html").is_file()
    assert all((folder / "evaluation.html").is_file() for folder in pair)


def test_a_run_that_these_settings_evaluated_is_not_evaluated_again(
    cli: Cli, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = ("--metrics", "sparsity", "--quiet")
    assert cli("evaluate", pair[0], *settings).exit_code == 0
    before = (pair[0] / "evaluation.json").stat().st_mtime_ns
    assert cli("evaluate", *pair, *settings, "--out", tmp_path / "report").exit_code == 0
    assert (pair[0] / "evaluation.json").stat().st_mtime_ns == before
    again = cli(
        "evaluate", *pair, "--metrics", "reconstruction", "--quiet", "--out", tmp_path / "r"
    )
    assert again.exit_code == 0
    assert (pair[0] / "evaluation.json").stat().st_mtime_ns > before


def test_settings_without_a_run_are_a_usage_error(cli: Cli) -> None:
    result = cli("evaluate", "evaluate.split=train")
    assert result.exit_code == 2
    assert "name at least one run" in result.output
