"""Progress as lines: one at the end of short work, with the last figures, and valid JSON rows."""

import json

import pytest

from saetools import progress


def _work(n: int) -> None:
    with progress.task("count", total=n, unit="stones") as bar:
        for i in range(n):
            bar.advance()
            bar.note(last=str(i))


def test_short_work_is_one_line_with_its_last_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.use("plain"):
        _work(5)
    (line,) = capsys.readouterr().err.splitlines()
    assert "count" in line
    assert "5/5 stones" in line
    assert "last 4" in line


def test_json_lines_tell_start_tenths_and_end_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.use("jsonl"):
        _work(5)
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [row["done"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["event"] for row in rows] == ["start", *["progress"] * 4, "end"]


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.use("silent"):
        _work(5)
    assert capsys.readouterr().err == ""
