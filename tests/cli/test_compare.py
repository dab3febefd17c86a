"""`saetools compare`: the page of runs that the command line made."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from saetools.train import HealthReport

Cli = Callable[..., Result]


def test_a_run_becomes_a_page_and_its_figures_are_those_of_its_health(
    cli: Cli, trained: Path, tmp_path: Path
) -> None:
    result = cli("compare", trained, "--out", tmp_path / "page.html", "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["table"]
    assert row["fvu"] == HealthReport.load(trained / "health.json").fvu
    assert row["seed"] == 0
    assert row["architecture"] == "TopK"
    assert (tmp_path / "page.html").is_file()
    assert json.loads((tmp_path / "page.json").read_text())["runs"][0]["fvu"] == row["fvu"]


def test_a_folder_that_is_no_run_is_one_error(cli: Cli, tmp_path: Path) -> None:
    result = cli("compare", tmp_path, "--out", tmp_path / "page.html")
    assert result.exit_code == 1
    assert "holds no trained SAE" in result.stderr
    assert not (tmp_path / "page.html").exists()


def test_no_run_at_all_is_a_usage_error(cli: Cli) -> None:
    assert cli("compare").exit_code == 2


def test_a_sweep_becomes_one_page_and_each_member_has_its_health(
    cli: Cli, harvested: Path, tmp_path: Path
) -> None:
    grid = ("--sweep", "sae.k=2,4", "--sweep", "train.init_seed=0,7")
    result = cli("train", harvested, *grid, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["next"] == f"saetools compare {harvested / 'sweep'}"
    shown = {row["member"]: row for row in json.loads(result.stdout)["table"]}
    for where in (harvested, harvested / "sweep"):
        result = cli("compare", where, "--out", tmp_path / "page.html", "--json")
        assert result.exit_code == 0, result.output
        rows = {row["name"]: row for row in json.loads(result.stdout)["table"]}
        assert {name: (row["k"], row["seed"]) for name, row in rows.items()} == {
            "k2-init_seed0": (2, 0),
            "k2-init_seed7": (2, 7),
            "k4-init_seed0": (4, 0),
            "k4-init_seed7": (4, 7),
        }
        assert all(row["fvu"] == shown[name]["fvu"] for name, row in rows.items())
    told = json.loads(result.stdout)["text"].splitlines()
    seeds = ["k2-init_seed0 and k2-init_seed7", "k4-init_seed0 and k4-init_seed7"]
    assert [line.split(" agree: ")[0] for line in told] == seeds, "all read one store: no notes"
