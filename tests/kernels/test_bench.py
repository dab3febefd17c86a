"""The benchmark runs from a plain checkout, gates on correctness and stamps its rows."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import saetools_kernels
from bench import kernel_times, record, run, targets, workloads
from bench.job import plan
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
        ("step_matryoshka", "eager"),
        ("step_matryoshka", "ours"),
        ("topk_rows", "eager"),
        ("topk_rows", "ours"),
    ]
    for row in rows:
        assert row["torch"] == torch.__version__
        assert all(row[name] for name in ("device", "date", "commit", "triton", "dtype"))
        assert 0 < float(row["p20_ms"]) <= float(row["median_ms"]) <= float(row["p80_ms"])
        assert (row["n"], row["d"], row["n_latents"], row["k"]) == tuple(TINY.split(","))


def ask(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["run", "--shape", TINY, "--repeats", "2", *arguments])
    return run.main()


def test_what_disagrees_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    original = workloads.raw.topk_rows

    def wrong(x: torch.Tensor, k: int) -> object:
        top = original(x, k)
        return top._replace(values=top.values + 1)

    monkeypatch.setattr(workloads.raw, "topk_rows", wrong)
    out = tmp_path / "rows.csv"
    arguments = ("--only", "topk_rows", "--out", str(out), "--providers", "ours")
    assert ask(monkeypatch, *arguments) == 1
    assert "NOT TIMED" in capsys.readouterr().out
    assert not out.exists()


def break_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> object:
        raise torch.OutOfMemoryError("tried to allocate more than there is")

    monkeypatch.setitem(workloads._BUILDERS, "gathered_dots", full)


TWO = ("--only", "gathered_dots", "--only", "topk_rows", "--providers", "ours")


def test_what_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    break_one(monkeypatch)
    out = tmp_path / "rows.csv"
    assert ask(monkeypatch, *TWO, "--out", str(out)) == 1
    printed = capsys.readouterr().out
    assert "gathered_dots at 16,24,96,3 (ours) cannot run here: OutOfMemoryError" in printed
    assert printed.count("tried to allocate") == 2  # where it happened and at the end
    assert [row["op"] for row in csv.DictReader(out.open())] == ["topk_rows"]


def test_a_lost_device_is_left_for_a_fresh_process_that_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    break_one(monkeypatch)
    started: list[list[str]] = []

    def execute(_: str, command: list[str]) -> None:
        started.append(command)
        raise SystemExit

    monkeypatch.setattr(run, "_usable", lambda device: False)
    monkeypatch.setattr(run.os, "closerange", lambda *_: None)
    monkeypatch.setattr(run.os, "execv", execute)
    with pytest.raises(SystemExit):
        ask(monkeypatch, *TWO, "--minutes", "5")
    (command,) = started
    monkeypatch.undo()
    out = tmp_path / "rows.csv"
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=KERNELS, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr  # it knows what failed before it
    assert "FAILED: gathered_dots" in done.stdout
    assert "[2/2] topk_rows" in done.stdout
    assert "[1/2]" not in done.stdout
    assert [row["op"] for row in csv.DictReader(out.open())] == ["topk_rows"]


def test_nothing_begins_after_the_time_is_over_and_what_is_left_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, *TWO, "--minutes", "0") == 0
    printed = capsys.readouterr().out
    assert "not measured:" in printed
    assert "topk_rows at 16,24,96,3 (ours)" in printed
    assert "ms [" not in printed


def test_steps_and_small_shapes_come_first_and_compiling_last() -> None:
    small, large = Shape(8, 4, 16, 2), Shape(8, 4, 64, 2)
    jobs = plan(["topk_rows", "step_topk"], [large, small], ("eager", "ours", "compile"))
    both, last = ("eager", "ours"), ("compile",)
    assert [(job.name, job.shape, job.providers) for job in jobs] == [
        ("step_topk", small, both),
        ("step_topk", large, both),
        ("topk_rows", small, both),
        ("topk_rows", large, both),
        ("step_topk", small, last),
        ("step_topk", large, last),
        ("topk_rows", small, last),
        ("topk_rows", large, last),
    ]
    assert all(job.providers == last for job in plan(["topk_rows"], [small], ("compile",)))


def test_the_profile_names_what_a_step_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "kernels.csv"
    assert ask(monkeypatch, "--only", "step_topk", "--profile", str(out)) == 0
    rows = list(csv.DictReader(out.open()))
    assert any(row["kernel"] == "aten::addmm" for row in rows)
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=0.05)
    assert [float(row["ms"]) for row in rows] == sorted(
        (float(r["ms"]) for r in rows), reverse=True
    )
    assert all(row["commit"] and row["op"] == "step_topk" for row in rows)


def test_a_kernel_is_counted_by_call() -> None:
    a = torch.ones(8, 8)
    found = kernel_times.by_kernel(lambda: (a @ a, a @ a), device=torch.device("cpu"), n_calls=4)
    assert next(one for one in found if one.name == "aten::mm").count == 2


SIZES = (8192, 768, 24576, 32)


def row(op: str, provider: str, ms: float, mib: float | None = None) -> dict[str, object]:
    sizes = dict(zip(("n", "d", "n_latents", "k"), map(str, SIZES), strict=True))
    held = {"op": op, "provider": provider, "median_ms": f"{ms:.4f}"}
    return {**sizes, **held, "peak_mib": "" if mib is None else f"{mib:.1f}"}


def test_targets_are_judged_from_rows() -> None:
    rows = [
        row("step_topk", "ours", 99.0, 9999.0),  # an earlier run: the last one counts
        row("step_topk", "ours", 1.9, 76.8),  # a dense float32 (n, n_latents) is 768 MiB
        row("step_matryoshka", "ours", 2.09),
    ]
    found = {one.target: one for one in targets.findings(rows, [SIZES])}
    assert found[targets.OF_FLOOR].value == pytest.approx(2.0)
    assert found[targets.OF_FLOOR].outcome == "missed"
    assert found[targets.OF_TOPK].value == pytest.approx(1.1)
    assert found[targets.OF_TOPK].outcome == "met"
    assert found[targets.OF_DENSE_BYTES].value == pytest.approx(0.1)
    assert found[targets.OF_DENSE_BYTES].outcome == "met"
    assert found[targets.OF_COMPILED] == (SIZES, targets.OF_COMPILED, None)
    assert found[targets.OF_COMPILED].outcome == "not measured"
    rows.append(row("step_topk", "compile", 5.8))
    (judged,) = [o for o in targets.findings(rows, [SIZES]) if o.target == targets.OF_COMPILED]
    assert judged.outcome == "met"
    assert not targets.OF_COMPILED.met(2.9)


def test_a_cpu_gets_ratios_and_no_verdict() -> None:
    rows = [row("step_topk", "ours", 1.9), row("step_matryoshka", "ours", 2.09)]
    on_cpu = targets.table(rows, [SIZES], device="CPU x86_64", on_gpu=False)
    assert "1.10" in on_cpu
    assert "for an H200 and are not judged" in on_cpu
    assert "met" not in on_cpu
    assert "missed" not in on_cpu
    on_h200 = targets.table(rows, [SIZES], device="NVIDIA H200", on_gpu=True)
    assert "| 1.9000 | 2.00 missed | 1.10 met | not measured | not measured |" in on_h200
    other = targets.table(rows, [SIZES], device="NVIDIA H100 80GB HBM3", on_gpu=True)
    assert "on another card: NVIDIA H100" in other


def test_rows_of_other_columns_are_not_mixed_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    record.append([{"a": 1, "b": 2}], path)
    with pytest.raises(ValueError, match=r"other columns than these rows \(c\)"):
        record.append([{"a": 1, "b": 2, "c": 3}], path)
    record.append([{"a": 3, "b": 4}], path)
    assert record.read(path, {"a": "3"}) == [{"a": "3", "b": "4"}]


def test_a_copy_without_history_can_be_told_its_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv(record.COMMIT_VARIABLE, raising=False)
    assert record.stamps(torch.device("cpu"))["commit"] == "unknown"
    monkeypatch.setenv(record.COMMIT_VARIABLE, "0123abc")
    assert record.stamps(torch.device("cpu"))["commit"] == "0123abc"
