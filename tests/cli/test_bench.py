"""`bench` shows the kernels and what was recorded, and measures when it is asked to."""

import csv
import json
from pathlib import Path

from saetools.sae import ops


def test_bench_shows_every_kernel_and_says_where_nothing_was_recorded(cli, monkeypatch):
    monkeypatch.setattr(ops, "kernel_results", list)
    result = cli("bench", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    for status in ops.kernel_status():
        assert answer["figures"][status.op] == f"{status.implementation} ({status.reason})"
    assert answer["figures"]["recorded devices"].startswith("none")
    assert answer["table"] == []


def test_recorded_rows_are_read_from_the_files_beside_the_kernels(cli, monkeypatch, tmp_path: Path):
    folder = tmp_path / "bench" / "results"
    folder.mkdir(parents=True)
    (folder / "one.csv").write_text("device,op,median_ms\nGPU one,topk_rows,0.5\n")
    monkeypatch.setattr(ops, "kernel_bench_folder", lambda: tmp_path)
    answer = json.loads(cli("bench", "--json").stdout)
    assert answer["figures"]["recorded devices"] == "GPU one"
    (row,) = answer["table"]
    assert (row["op"], row["median_ms"]) == ("topk_rows", "0.5")


def test_bench_run_measures_and_writes_where_it_is_told(cli, tmp_path: Path):
    out = tmp_path / "rows.csv"
    result = cli("bench", "--run", "--only", "threshold_rows", "--shape", "8,16,64,2", "--out", out)
    assert result.exit_code == 0, result.output
    with out.open() as file:
        assert {row["op"] for row in csv.DictReader(file)} == {"threshold_rows"}


def test_bench_run_without_the_source_says_what_to_do(cli, monkeypatch):
    monkeypatch.setattr(ops, "kernel_bench_folder", lambda: None)
    result = cli("bench", "--run")
    assert result.exit_code == 1
    assert "source checkout" in result.stderr
