"""The benchmark runs from a plain checkout, gates on correctness and stamps its rows."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import saetools_kernels
from bench import run, workloads
from bench.workloads import NAMES, Shape, build
from saetools_kernels.spec import all_specs

KERNELS = Path(saetools_kernels.__file__).parents[1]
TINY = "16,24,96,3"


def test_every_op_is_measured() -> None:
    # The differentiable form of prefix_decode is measured inside the Matryoshka step.
    assert set(all_specs()) - {"prefix_loss"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_ours_and_eager_agree_before_anything_is_timed(name: str) -> None:
    work = build(name, Shape(33, 20, 112, 5), device=torch.device("cpu"), dtype=torch.float32)
    work.agrees()
    work.ours()
    work.eager(*work.arguments)


def test_it_runs_with_torch_alone_and_writes_stamped_rows(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.run", "--shape", TINY, "--repeats", "2"),
            *("--providers", "eager,ours", "--only", "topk_rows", "--only", "step_matryoshka"),
            *("--out", str(out)),
        ],
        cwd=KERNELS,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = list(csv.DictReader(out.open()))
    assert [(row["op"], row["provider"]) for row in rows] == [
        ("topk_rows", "eager"),
        ("topk_rows", "ours"),
        ("step_matryoshka", "eager"),
        ("step_matryoshka", "ours"),
    ]
    for row in rows:
        assert row["torch"] == torch.__version__
        assert all(row[name] for name in ("device", "date", "commit", "triton", "dtype"))
        assert 0 < float(row["p20_ms"]) <= float(row["median_ms"]) <= float(row["p80_ms"])
        assert (row["n"], row["d"], row["n_latents"], row["k"]) == tuple(TINY.split(","))


def test_what_disagrees_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    original = workloads.raw.topk_rows

    def wrong(x: torch.Tensor, k: int) -> object:
        top = original(x, k)
        return top._replace(values=top.values + 1)

    monkeypatch.setattr(workloads.raw, "topk_rows", wrong)
    out = tmp_path / "rows.csv"
    arguments = ["run", "--shape", TINY, "--only", "topk_rows", "--repeats", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(out), "--providers", "ours"])
    assert run.main() == 1
    assert "NOT TIMED" in capsys.readouterr().out
    assert not out.exists()
