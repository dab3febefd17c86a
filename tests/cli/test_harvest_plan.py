"""`saetools harvest --dry-run` says what a harvest takes; its options reach the store."""

import json
from pathlib import Path

import pytest

from saetools.store import ActivationStore


def test_a_dry_run_predicts_the_harvest_and_writes_nothing(cli, recipe: Path, tmp_path: Path):
    run = tmp_path / "run"
    result = cli("harvest", recipe, "--out", run, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert not run.exists()
    predicted = {row["predicted"]: row["value"] for row in json.loads(result.stdout)["table"]}
    assert cli("harvest", recipe, "--out", run, "--quiet").exit_code == 0
    with ActivationStore.open(run / "acts.h5") as store:
        assert predicted["tokens"] == pytest.approx(store.n_tokens, rel=0.2)
    assert predicted["bytes on disk"] == pytest.approx((run / "acts.h5").stat().st_size, rel=0.2)
    assert predicted["fits"] is True
    assert predicted["seconds"] > 0


def test_options_of_the_config_reach_the_store(cli, recipe: Path, tmp_path: Path):
    run = tmp_path / "run"
    words = [
        "harvest.packing=joined",
        "harvest.max_norm_multiple=50.0",
        "harvest.batch_tokens=auto",
    ]
    result = cli("harvest", recipe, *words, "--out", run, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)["figures"]
    assert figures["special tokens"] == "dropped"
    assert figures["outliers dropped"] == 0
    with ActivationStore.open(run / "acts.h5") as store:
        assert figures["precision error"] == store.precision_error() > 0
        assert store.manifest["packing"] == "joined"
        assert store.manifest["outliers"]["max_norm_multiple"] == 50
        assert isinstance(store.manifest["batch_tokens"], int)


@pytest.mark.parametrize("size", ["0", "many", "true"])
def test_a_batch_size_that_is_none_is_refused_in_one_sentence(cli, recipe, tmp_path, size: str):
    result = cli("harvest", recipe, f"harvest.batch_tokens={size}", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "neither a number of tokens above 0 nor auto" in result.stderr
