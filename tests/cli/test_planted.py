"""The planted half of the demo: concepts found, names checked, an entity switched off."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from saetools.cli.demo import HALVES
from saetools.evaluate import UnlearningReport

Cli = Callable[..., Result]

SMALL = ("data.n_docs=700", "train.n_tokens=250000", "sae.n_latents=512", "evaluate.n_docs=20")


@pytest.fixture(scope="module")
def planted(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("planted") / "demo"
    result = cli("demo", "--only", "planted", *SMALL, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    return out.with_name("demo_planted"), result.stdout


def test_the_planted_half_runs_every_stage(planted: tuple[Path, str]) -> None:
    folder, stdout = planted
    answer = json.loads(stdout)
    assert [row["stage"] for row in answer["table"]] == list(HALVES["planted"].stages)
    assert "Names that say the concept's word" in answer["text"]
    assert (folder / "report.html").is_file()


def test_most_words_have_a_latent_and_its_name_says_them(planted: tuple[Path, str]) -> None:
    found = json.loads((planted[0] / "recovery.json").read_text())
    values = next(row for row in found["layers"] if row["concepts"] == "value")
    assert values["recovered"] > values["of"] / 2
    names = found["names"]
    assert names["right_fraction"] > 0.6
    assert names["swapped_fraction"] < 0.1


def test_latents_that_are_switched_off_hide_an_entity_and_the_oracle_never_knew_it(
    planted: tuple[Path, str],
) -> None:
    report = UnlearningReport.load(planted[0] / "forgetting.json")
    accuracy = {
        model: report.row("accuracy", model=model, detail="forget").value
        for model in ("original", "edited", "oracle-0")
    }
    assert accuracy["original"] > 0.95
    assert accuracy["oracle-0"] < 0.3
    assert accuracy["edited"] < accuracy["original"]
    assert report.about["entity"] == "Dovpal"
    assert report.score is None, "nothing was relearned, so there is no combined score"


def test_an_entity_without_an_oracle_is_refused(cli: Cli, planted: tuple[Path, str]) -> None:
    result = cli("testbed", "forget", planted[0], "--entity", "Dovpall")
    assert result.exit_code == 1
    assert "no forget entity" in result.stderr
    assert "Dovpal" in result.stderr


def test_names_of_every_namer_are_compared_with_the_truth(
    cli: Cli, planted: tuple[Path, str]
) -> None:
    result = cli("testbed", "names", planted[0], "--json")
    assert result.exit_code == 0, result.output
    found = json.loads((planted[0] / "name_truth.json").read_text())
    namers = found["namers"]
    assert {"labels", "logit_lens", "top_tokens", "vocabulary", "names.csv"} <= set(namers)
    assert set(found["skipped"]) == {"llm", "manual"}
    latents = found["latents"]
    assert latents["n_live"] == sum(list(latents.values())[1:-1])
    assert 0 < latents["n_unknown_rare"] < latents["n_unknown"]
    best = namers["top_tokens"]["planted"]
    assert best["n"] == latents["n_planted"]
    assert best["right_fraction"]["value"] > 0.8
    assert best["right_fraction"]["low"] > best["swapped_of_named"]["high"]
    assert namers["names.csv"]["planted"] == best
    refused = cli("testbed", "names", planted[0], "--namer", "llm")
    assert refused.exit_code == 1
    assert "nobody to ask" in refused.stderr


def test_recovery_needs_a_world_that_is_known(cli: Cli, trained: Path) -> None:
    for command in ("recover", "names"):
        result = cli("testbed", command, trained)
        assert result.exit_code == 1
        assert "whose truth is not known" in result.stderr
