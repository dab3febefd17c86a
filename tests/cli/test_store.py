"""`saetools store`: what is inside, whether it is sound, and one store of several."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch
from typer.testing import Result

Cli = Callable[..., Result]
HOOK = "blocks.0.hook_resid_post"


@pytest.fixture
def stores(make_store) -> list[Path]:  # type: ignore[no-untyped-def]
    """Two stores of 100 rows each."""
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    made = [make_store(x[i * 100 :][:100], name=f"{i}.h5", dtype="int8") for i in range(2)]
    for store in made:
        store.close()
    return [store.path for store in made]


def test_info_shows_rows_splits_and_the_precision_error(cli: Cli, stores: list[Path]) -> None:
    found = json.loads(cli("store", "info", stores[0], "--json").stdout)
    assert found["figures"]["tokens"] == 100
    assert found["figures"]["training"] + found["figures"]["held out"] == 100
    assert found["figures"]["bytes"] == stores[0].stat().st_size
    (row,) = found["table"]
    assert row["hook"] == HOOK
    assert 0 < row["precision error"] < 1e-3
    assert row["norm 50%"] < row["norm 99%"] <= row["norm max"]
    assert HOOK in cli("store", "info", stores[0]).stdout


def test_verify_passes_a_sound_store_and_names_the_rows_of_a_damaged_one(
    cli: Cli, stores: list[Path]
) -> None:
    sound = cli("store", "verify", stores[0])
    assert sound.exit_code == 0
    assert "is sound" in sound.stdout
    with h5py.File(stores[0], "r+") as file:
        file[f"activations/{HOOK}"][3, 1] = 0
    damaged = cli("store", "verify", stores[0], "--quiet")
    assert damaged.exit_code == 1
    assert "0 to 99" in damaged.stdout
    assert "bytes have changed" in damaged.stdout


def test_merge_writes_a_store_that_passes_verify(
    cli: Cli, stores: list[Path], tmp_path: Path
) -> None:
    done = cli("store", "merge", *stores, "--out", tmp_path / "acts.h5")
    assert done.exit_code == 0, done.stdout
    assert "200" in done.stdout
    assert cli("store", "verify", tmp_path).exit_code == 0  # a run folder will do
    info = json.loads(cli("store", "info", tmp_path, "--json").stdout)
    assert info["figures"]["shards"] == 2
    again = cli("store", "merge", *stores, "--out", tmp_path / "acts.h5")
    assert again.exit_code == 1
    assert "it exists" in again.output
