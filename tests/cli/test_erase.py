"""`saetools erase`: an eraser in the run folder, and what probes read beside it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from saetools.erase import Eraser

Cli = Callable[..., Result]


def test_a_label_is_erased_and_probes_say_what_is_left(cli: Cli, trained: Path) -> None:
    result = cli("erase", trained, "--concept", "sea", "--set", "level=text")
    assert result.exit_code == 0, result.output
    assert "balanced accuracy 0.5" in result.stdout or "can still be read" in result.stdout
    assert "canonical_correlation" in result.stdout  # the report's evidence
    assert f"wrote {trained / 'eraser'}" in result.stdout
    assert not list(trained.rglob("*.partial"))


def _files(folder: Path) -> tuple[Path, Path]:
    made = []
    for name, words in (("sea", "ship wave fish"), ("farm", "cow barn hay")):
        lines = [
            f"the {a} and the {b} {c}"
            for a in words.split()
            for b in words.split()
            for c in ("saw the sun", "went home", "came back", "was there", "had a day")
        ]
        made.append(folder / f"{name}.txt")
        made[-1].write_text("\n".join(lines))
    return made[0], made[1]


@pytest.mark.parametrize("words", [("leace", "level=text"), ("zero", "n_latents=4")])
def test_files_of_texts_are_erased(cli: Cli, trained: Path, tmp_path: Path, words) -> None:
    sea, farm = _files(tmp_path)
    result = cli(
        "erase", trained, "--forget", sea, "--retain", farm, "--eraser", words[0],
        "--set", words[1], "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert {row["probe"] for row in shown["table"]} == {"linear", "mlp"}
    record = json.loads((trained / "erasure.json").read_text())
    at_hook = next(r for r in record["readings"] if r["probe"] == "linear")
    assert at_hook["before"]["accuracy"] > 0.9
    if words[0] == "leace":
        assert at_hook["after"]["accuracy"] < 0.75
    eraser = Eraser.load(trained / "eraser")
    assert eraser.kind == words[0]
    assert eraser.report.n_forget_texts == record["report"]["n_forget_texts"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --concept LABEL"),
        (["--concept", "sea", "--forget", "x.txt"], "give --concept LABEL"),
        (["--concept", "see"], "nearest: sea"),
        (["--concept", "sea", "--eraser", "leaze"], "did you mean 'leace'"),
        (["--concept", "sea", "--set", "rank"], "KEY=VALUE"),
        (["--concept", "sea", "--set", "rank=3"], "rank"),
    ],
)
def test_what_cannot_be_done_is_said(
    cli: Cli, trained: Path, words: list[str], message: str
) -> None:
    result = cli("erase", trained, *words)
    assert result.exit_code == 1
    assert message in result.output
    assert not (trained / "eraser").exists()
