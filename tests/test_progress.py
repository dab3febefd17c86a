"""Progress as lines: one at the end of short work, with the last figures, and valid JSON rows."""

import io
import json

import pytest
from rich.console import Console

from saetools import progress
from saetools.progress.live import Live


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


def _train(bar: progress.Task, *names: str) -> None:
    for name in names:
        bar.row(name, {"fvu": 0.5, "tokens/s": 20_000.0})
        bar.row(name, {"fvu": 0.25})
    bar.advance()


def test_a_thing_that_is_alone_stands_in_the_line_without_a_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress.use("plain"), progress.task("train", total=1, unit="steps") as bar:
        _train(bar, "")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("fvu 0.25  tokens/s 20,000")


def test_several_things_stand_in_the_line_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.use("plain"), progress.task("train", total=1, unit="steps") as bar:
        _train(bar, "k=8", "k=16")
    (line,) = capsys.readouterr().err.splitlines()
    assert "k=8: fvu 0.25" in line
    assert "k=16: fvu 0.25" in line


def test_json_lines_hold_rows_by_name_and_a_thing_alone_as_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for names in (("",), ("k=8", "k=16")):
        with progress.use("jsonl"), progress.task("train", total=1, unit="steps") as bar:
            _train(bar, *names)
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    ends = [row for row in rows if row["event"] == "end"]
    assert ends[0]["fvu"] == 0.25
    assert "rows" not in ends[0]
    assert ends[1]["rows"]["k=16"] == {"fvu": 0.25, "tokens/s": 20_000.0}


def _screen(*names: str, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, color_system=None)
    with Live("train", 1, "steps", console=console) as live:
        _train(live, *names)
    # What is drawn last stays on the screen.
    return out.getvalue().split("train")[-1]


def test_a_terminal_has_a_table_with_a_row_for_each_thing() -> None:
    lines = [line.split() for line in _screen("a [b]", "k=16", terminal=True).splitlines()]
    assert ["fvu", "tokens/s"] in lines
    assert ["a", "[b]", "0.25", "20,000"] in lines
    assert ["k=16", "0.25", "20,000"] in lines


def test_outside_a_terminal_there_is_one_line_and_no_table() -> None:
    lines = [line for line in _screen("", terminal=False).splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].split()[-4:] == ["fvu", "0.25", "tokens/s", "20,000"]


def test_in_jupyter_no_thread_draws_beside_the_notebook() -> None:
    for in_jupyter in (True, False):
        console = Console(force_jupyter=in_jupyter, file=io.StringIO())
        bar = Live("train", 10, "tokens", console=console)
        assert bar._progress.live.auto_refresh is not in_jupyter
