"""The page on erasers: its Python runs, and its table of erasers is the registry's."""

import re
from pathlib import Path

import pytest

from saetools.erase import ERASERS, Eraser

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "erasers.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(block, "erasers.md", "exec"), {"__name__": "page"})
    assert Eraser.load(tmp_path / "eraser").kind == "leace"


def test_the_page_names_every_eraser() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE))
    assert named == set(ERASERS.names())
