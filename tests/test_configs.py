"""Every config file of the repository is valid, its plug-ins' blocks included."""

from pathlib import Path

import pytest

from saetools.cli.demo import HALVES, run_halves
from saetools.cli.find import open_run
from saetools.config import load_config

ROOT = Path(__file__).resolve().parent.parent
UNLEARN = sorted((ROOT / "configs/unlearn").glob("*.yaml"))
FILES = sorted(set((ROOT / "configs").rglob("*.yaml")) - set(UNLEARN))


def test_the_folders_hold_what_the_readme_names():
    names = {str(path.relative_to(ROOT / "configs")) for path in FILES}
    assert names >= {
        "recipes/demo_minilm_l3.yaml",
        "recipes/gpt2_small_l8.yaml",
        "recipes/planted_l2.yaml",
        "recipes/stories260k.yaml",
        "recipes/stories260k_jumprelu.yaml",
        "recipes/stories260k_matryoshka.yaml",
        "tiny/tiny_topk.yaml",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_file_is_a_valid_run(path: Path):
    run = open_run(path)
    assert run.path == Path("runs") / run.config.name


def test_run_names_are_unique():
    names = [load_config(path).name for path in FILES]
    assert len(set(names)) == len(names)


def test_the_demo_is_the_packaged_recipe():
    link = ROOT / "configs/recipes/demo_minilm_l3.yaml"
    packaged = ROOT / "saetools/cli/demo_encoder.yaml"
    assert link.read_text() == packaged.read_text()


def test_the_tiny_config_runs_the_whole_path_offline(tmp_path: Path):
    run = open_run(ROOT / "configs/tiny/tiny_topk.yaml", out=tmp_path / "run")
    outcome = run_halves({"encoder": run})
    assert {row["stage"] for row in outcome.table} == set(HALVES["encoder"].stages)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
