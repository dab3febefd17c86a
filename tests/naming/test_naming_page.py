"""The code on the page about names runs, as it stands there; its commands are those that exist."""

import re
from pathlib import Path

import pytest
import torch

import saetools as st
from saetools.naming import NAMERS
from saetools.testing import naming_subject

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "naming.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_runs(tmp_path, monkeypatch, capsys):
    subject = naming_subject(tmp_path)
    monkeypatch.setitem(NAMERS._table, "shout", None)  # and gone again afterwards
    folder = tmp_path / "empty"
    folder.mkdir()
    names = {"st": st, "torch": torch, "folder": folder, "__name__": "page"}
    names |= {"index": subject.index, "sae": subject.sae, "model": subject.model}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "naming.md", "exec"), names)
    assert "latents to name" in capsys.readouterr().out


@pytest.mark.parametrize("namer", NAMERS.names())
def test_every_namer_has_its_row_and_its_settings_exist(namer):
    assert f"| `{namer}` |" in PAGE
    known = set(NAMERS.get(namer).Config.model_fields)
    for line in PAGE.replace("\\\n", "").splitlines():
        if f"--namer {namer} " in line and line.startswith("$"):
            asked = set(re.findall(r"naming\.(\w+)=", line))
            assert asked <= known, line
