"""Training survives SIGKILL at any moment and ends with the same weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from saetools.store import ActivationStore

SCRIPT = Path(__file__).with_name("killed_trainings.py")


@pytest.mark.parametrize("n_kills", [20, pytest.param(150, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment_ends_with_the_same_weights(
    n_kills: int, tiny_store: ActivationStore, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    command = [sys.executable, str(SCRIPT), str(tiny_store.path), str(folder), str(n_kills), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)
    assert len(set(kept)) >= 5, f"the kills came at many different moments: {kept}"
    finished = sorted(path for path in folder.iterdir() if path.name.isdigit())
    assert finished
    for run in finished:
        for name in ("topk", "matryoshka"):
            weights = "sae/sae.safetensors"
            whole = (folder / "whole" / name / weights).read_bytes()
            assert (run / name / weights).read_bytes() == whole, (run, name)
        assert not list(run.rglob("*.partial"))
        assert not list(run.rglob("checkpoint*")), "a finished run keeps no checkpoint"
