"""`saetools name`: several namers, a person's names, and prompts without asking."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from saetools.naming import NamesTable

Cli = Callable[..., Result]


def _name(cli: Cli, folder: Path, *words: object) -> Result:
    result = cli("name", folder, *words)
    assert result.exit_code == 0, result.output
    return result


def test_namers_are_asked_in_order_and_each_name_says_whose_it_is(cli: Cli, trained: Path) -> None:
    _name(cli, trained, "--quiet")
    result = _name(cli, trained, "--namer", "labels, top_tokens", "--json")
    answer = json.loads(result.stdout)
    assert answer["figures"]["top_tokens"] > 0
    table = NamesTable.load(trained / "names.csv")
    assert {name.namer for name in table} == set(answer["figures"])
    assert "type: first_of" in (trained / "config.yaml").read_text()


def test_another_namer_starts_with_its_own_settings(cli: Cli, trained: Path) -> None:
    _name(cli, trained, "naming.n_words=2", "--quiet")
    _name(cli, trained, "--namer", "logit_lens", "naming.min_z=3", "--quiet")
    config = (trained / "config.yaml").read_text()
    assert "type: logit_lens" in config
    assert "n_words" not in config
    _name(cli, trained, "--namer", "logit_lens", "--quiet")
    assert "min_z: 3" in (trained / "config.yaml").read_text(), "the same namer keeps its own"


def test_the_model_is_loaded_for_a_namer_that_needs_it(cli: Cli, trained: Path) -> None:
    _name(cli, trained, "--namer", "vocabulary", "naming.chance=1.0", "--quiet")
    assert len(NamesTable.load(trained / "names.csv")) > 0
    assert list((trained / "naming_cache").glob("words-*.npy"))


def test_edited_names_are_merged_and_the_others_stay(
    cli: Cli, trained: Path, tmp_path: Path
) -> None:
    _name(cli, trained, "--quiet")
    before = NamesTable.load(trained / "names.csv")
    latent, other = (name.latent for name in list(before)[:2])
    mine = tmp_path / "mine.csv"
    mine.write_text(f"latent,name\n{latent},my name\n")
    _name(cli, trained, "--namer", "manual", f"naming.path={mine}", "--quiet")
    after = NamesTable.load(trained / "names.csv")
    assert len(after) == len(before)
    assert (after.get(latent).name, after.get(latent).namer) == ("my name", "manual")
    assert after.get(other) == before.get(other)
    _name(cli, trained, "--namer", "top_tokens", "--quiet")
    assert NamesTable.load(trained / "names.csv").get(latent).name == "my name"


def test_a_dry_run_of_llm_prints_prompts_and_writes_nothing(
    cli: Cli, trained: Path, files_of: Callable[[Path], dict[str, bytes]]
) -> None:
    _name(cli, trained, "--quiet")
    before = files_of(trained)
    words = ("--namer", "llm", "naming.base_url=http://127.0.0.1:9/v1", "naming.llm=small")
    result = _name(cli, trained, *words, "--latents", "0:4", "--dry-run")
    assert "latents to name; 0 answers are there" in result.stdout
    assert "[EXPLANATION]" in result.stdout
    assert "<<" in result.stdout
    assert files_of(trained) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--namer", "top_token"), "did you mean 'top_tokens'"),
        (("--namer", "llm"), "nobody to ask"),
        (("--namer", "labels,nobody"), "no namer named 'nobody'"),
        (("--namer", "manual", "naming.path=no.csv"), "no table of names at no.csv"),
    ],
)
def test_what_cannot_be_done_is_said(
    cli: Cli, trained: Path, words: tuple[str, ...], message: str
) -> None:
    result = cli("name", trained, *words)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
