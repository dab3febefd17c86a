"""Commands and code that the README shows do run, as they stand there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import saetools as st
from saetools.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_every_command_of_the_readme_runs_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "configs" / "tiny", tmp_path / "configs" / "tiny")
    monkeypatch.chdir(tmp_path)
    lines = [line for block in _blocks("console") for line in block.splitlines()]
    commands = [line[2:] for line in lines if line.startswith("$ saetools")]
    assert len(commands) == 12, "the path in twelve commands"
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
    assert (tmp_path / "runs" / "tiny_topk" / "report.html").exists()


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^\$ make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = _blocks("python")
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert (tmp_path / "report.html").exists()


def test_the_python_of_the_page_on_metrics_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "known-answers.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    config = st.TrainConfig(n_tokens=20 * 512, batch_tokens=512)
    names = {"st": st, "config": config, "__name__": "page"}
    exec(compile(block, "known-answers.md", "exec"), names)
    assert (tmp_path / "planted.h5").exists()


def test_files_that_the_documents_name_exist() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        for path in re.findall(r"`((?:saetools|kernels|configs|notebooks|docs)/[\w./-]+\w)`", text):
            assert (ROOT / path).exists(), f"{document} names {path}"
