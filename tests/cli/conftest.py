"""A small labelled corpus, the tiny config on it, and one finished run that tests share."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from saetools.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
_WORDS = {
    "sea": ["ship", "wave", "sail", "fish", "salt"],
    "farm": ["cow", "barn", "hay", "pig", "milk"],
    "city": ["bus", "street", "tower", "shop", "light"],
}

Cli = Callable[..., Result]


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run a `saetools` command in this process."""
    runner = CliRunner()

    def invoke(*words: object) -> Result:
        return runner.invoke(app, [str(word) for word in words])

    return invoke


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 short documents under three labels."""
    rng = random.Random(0)
    rows = [
        {"text": " ".join(rng.choices([*words, "the", "and"], k=12)) + ".", "label": label}
        for _ in range(40)
        for label, words in _WORDS.items()
    ]
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture(scope="session")
def recipe(corpus_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny config of the repository, on the small corpus."""
    path = tmp_path_factory.mktemp("recipe") / "run.yaml"
    path.write_text(
        f"base: {ROOT / 'configs/tiny/tiny_topk.yaml'}\n"
        "data:\n"
        "  type: files\n"
        f"  path: {corpus_file}\n"
        "  label_field: label\n"
        "train: {n_tokens: 20000}\n"
        "concept: {n_latents: 4, n_docs: 60}\n"
    )
    return path


@pytest.fixture(scope="session")
def _trained(cli: Cli, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    for command in ("harvest", "train"):
        result = cli(command, recipe, "--out", folder, "--quiet")
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> Path:
    """A run folder of one's own that is harvested and trained."""
    return Path(shutil.copytree(_trained, tmp_path / "run"))


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, bytes]]:
    """What a folder holds, to compare before and after."""
    return listing


@pytest.fixture
def harvested(cli: Cli, recipe: Path, tmp_path: Path) -> Path:
    """A run folder of one's own, up to its store."""
    folder = tmp_path / "harvested"
    result = cli("harvest", recipe, "--out", folder, "--quiet")
    assert result.exit_code == 0, result.output
    return folder
