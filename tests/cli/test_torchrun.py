"""`torchrun -m saetools train`: many processes, one run folder, stopped and gone on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from saetools.sae import SAE
from saetools.train import read_metrics

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("train.n_tokens=400000", "train.batch_tokens=1000", "train.checkpoint_tokens=20000")


def _torchrun(run: Path, *settings: str) -> subprocess.Popen[str]:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    return subprocess.Popen(
        [*launcher, "-m", "saetools", "train", str(run), *SETTINGS, *settings, "--json"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_that_the_launcher_stopped_goes_on_and_ends_as_one_process_would(
    cli, harvested: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copytree(harvested, tmp_path / "alone"))
    assert cli("train", alone, *SETTINGS, "--quiet").exit_code == 0

    job = _torchrun(harvested, "train.parallel=latents")
    waited = time.monotonic()
    while not list(harvested.glob("checkpoint.step*.rank*-of-00002.safetensors")):
        assert job.poll() is None, job.communicate()
        assert time.monotonic() - waited < 120
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    _, told = job.communicate(timeout=60)
    assert job.returncode != 0
    assert "run it again to go on from" in told
    assert not (harvested / "sae").exists(), "it was stopped before its end"
    slices = sorted(path.name for path in harvested.glob("checkpoint*"))
    assert len({name.split(".rank")[0] for name in slices[-2:]}) == 1, "both stopped at one step"

    job = _torchrun(harvested, "train.parallel=latents")
    shown, told = job.communicate(timeout=120)
    assert job.returncode == 0, told
    assert len(shown.splitlines()) == 1, "one process speaks"
    assert not list(harvested.glob("checkpoint*"))
    wanted, got = (SAE.load(run / "sae").state_dict() for run in (alone, harvested))
    assert got["W_dec"].shape == wanted["W_dec"].shape
    steps = [row["step"] for row in read_metrics(harvested / "metrics.jsonl")]
    assert steps == sorted(set(steps)), "one process writes figures"
    fvus = [read_metrics(run / "metrics.jsonl")[-1]["fvu"] for run in (alone, harvested)]
    assert fvus[0] == pytest.approx(fvus[1], rel=0.02)
    assert bool(torch.isfinite(got["W_dec"]).all())
