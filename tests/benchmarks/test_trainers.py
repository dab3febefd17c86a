"""The training benchmark: one way to time on both devices; one failure does not end the rest."""

import csv
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.trainers.device import Cpu, Cuda, device_named

ROOT = Path(__file__).resolve().parents[2]


def test_a_cpu_is_timed_by_the_clock_that_is_asked_for() -> None:
    cpu, ran = Cpu(), []
    assert cpu.seconds(lambda: ran.append(1)) >= 0
    assert cpu.seconds(lambda: ran.append(2), clock="cpu") >= 0
    assert ran == [1, 2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc: Linux")
def test_the_peak_outlives_what_made_it_until_it_is_forgotten() -> None:
    cpu, size = Cpu(), 64 * 2**20
    cpu.forget_peak()
    before = cpu.peak_bytes()
    assert before is not None
    torch.ones(size // 4)  # freed at once
    cpu.give_back()
    peak, used = cpu.peak_bytes(), cpu.used_bytes()
    assert peak is not None
    assert used is not None
    assert peak - before > 0.9 * size
    assert peak - used > 0.9 * size
    cpu.forget_peak()
    assert cpu.peak_bytes() < before + 0.1 * size


class FakeEvent:
    """Counts where it stands in the queue; two that follow each other are 250 ms apart."""

    def __init__(self, log: list[str], *, enable_timing: bool) -> None:
        assert enable_timing
        self.log = log

    def record(self) -> None:
        self.log.append("event")

    def elapsed_time(self, other: "FakeEvent") -> float:
        assert self.log[-1] == "synchronize", "read before the GPU was waited for"
        return 250.0


def test_a_gpu_call_is_waited_for_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))
    monkeypatch.setattr(
        torch.cuda, "Event", lambda *, enable_timing: FakeEvent(log, enable_timing=enable_timing)
    )
    assert Cuda().seconds(lambda: log.append("call")) == 0.25
    assert log == ["synchronize", "event", "call", "event", "synchronize"]
    with pytest.raises(ValueError, match="--clock wall"):
        Cuda().seconds(lambda: None, clock="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_peak_of_a_gpu_is_that_of_its_tensors() -> None:
    gpu, size = Cuda(), 64 * 2**20
    gpu.forget_peak()
    before = gpu.used_bytes()
    torch.ones(size // 4, device="cuda")
    assert gpu.used_bytes() == before
    assert gpu.peak_bytes() == before + size


def test_an_unknown_device_and_a_missing_gpu_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="known: cpu, cuda"):
        device_named("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="sees no CUDA device"):
        device_named("cuda")


def test_the_fastest_of_each_library_is_compared_and_judged_on_a_gpu_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(ROOT / "kernels"))
    train_step = importlib.import_module("train_step")
    commands = train_step.commands_of("cuda", with_peers=True)
    seconds = {"saetools": 2.0, "sparsify": 7.0, "SAELens": 5.0, "dense PyTorch autograd": 9.0}
    timings = {
        command: train_step.Timing([1.0], [seconds[command.library] + 0.5 * number], None)
        for number, command in enumerate(commands)
        if command.library in seconds
    }
    fastest = min(t.step for c, t in timings.items() if not c.is_peer)
    lines = train_step.factors("topk", timings, judged=True)
    assert len(lines) == 3
    assert f"{timings[commands[4]].step / fastest:.2f} times faster than sparsify, Adam" in lines[1]
    assert lines[1].endswith("wanted >= 3: met")
    assert lines[2].endswith("wanted >= 3: met")
    assert timings[commands[6]].step / fastest >= 3
    assert "wanted" not in lines[0] + "".join(train_step.factors("topk", timings, judged=False))
    assert "wanted" not in "".join(train_step.factors("matryoshka", timings, judged=True))


@pytest.mark.parametrize("rows", ["cpu", "cuda"])
def test_ours_are_timed_though_the_peers_are_missing(rows: str, tmp_path: Path) -> None:
    """The same path on both devices; a Python without the peers says so line by line."""
    out = tmp_path / "rows.csv"
    done = subprocess.run(
        [
            *(sys.executable, "benchmarks/train_step.py", "--size", "16", "24", "96", "3"),
            *("--rounds", "2", "--threads", "1", "--archs", "topk", "--rows", rows),
            *("--out", str(out), "--peers-python", sys.executable),
        ],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "sparsify, Adam" in done.stdout
    assert "cannot run: ModuleNotFoundError" in done.stdout
    written = list(csv.DictReader(out.open()))
    titles = [row["library"] for row in written]
    assert titles[0] == ("saetools" if rows == "cpu" else "saetools_kernels, bfloat16")
    assert any(title.startswith("dense PyTorch autograd") for title in titles)
    assert not any(title.startswith(("sparsify", "SAELens")) for title in titles)
    for row in written:
        assert all(row[name] for name in ("device", "date", "commit", "torch", "versions"))
        assert 0 < float(row["p20_ms"]) <= float(row["median_ms"]) <= float(row["p80_ms"])
