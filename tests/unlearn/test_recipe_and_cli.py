"""A recipe is checked whole before anything runs, and the command does what it says."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import saetools as st
from saetools.cli.app import app
from saetools.corpus import Question
from saetools.corpus.questions import save_questions
from saetools.errors import ConfigError, UnknownNameError
from saetools.explore import show_judgement
from saetools.unlearn.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs/unlearn").glob("*.yaml"))


@pytest.fixture
def written(tmp_path: Path) -> dict:
    """A recipe on the tiny model whose facts are in a file."""
    facts = [
        Question(f"{name} went to the", f" {place}", entity=name, form="statement")
        for name, place in (("Zed", "house"), ("Ann", "tree"), ("Bob", "garden"), ("Cy", "sun"))
    ]
    save_questions(facts, tmp_path / "facts.jsonl")
    block = {"questions": str(tmp_path / "facts.jsonl")}
    return {
        "name": "tiny",
        "model": "tiny",
        "out": str(tmp_path / "out"),
        "forget": {**block, "entities": ["Zed"]},
        "retain": {**block, "not_entities": ["Zed"]},
        "method": {"type": "npo", "n_steps": 3, "lr": 1e-4},
        "max_perplexity_ratio": None,
        "evaluate": {
            "forget": {**block, "entities": ["Zed"]},
            "retain": {**block, "not_entities": ["Zed"]},
            "settings": {"measures": ["accuracy", "edit_norm"]},
        },
    }


def save(recipe: dict, folder: Path) -> str:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return str(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_is_valid_and_its_sets_can_be_read(path: Path):
    recipe = load_recipe(path)
    assert recipe.forget.read()
    assert recipe.retain.read()
    assert recipe.evaluate is not None
    assert {q.form for q in recipe.evaluate.forget.read()}.isdisjoint(
        {q.form for q in recipe.forget.read()}
    )


def test_labels_of_a_corpus_tell_what_is_to_be_forgotten(written: dict):
    corpus = {"type": "planted_world", "n_docs": 60}
    written["forget"] = {"corpus": corpus, "labels": ["music"]}
    written["retain"] = {"corpus": corpus, "not_labels": ["music"]}
    recipe = load_recipe(written)
    gone, kept = recipe.forget.read(), recipe.retain.read()
    assert len(gone) + len(kept) == 60
    assert gone
    assert kept


def test_the_command_writes_a_model_a_page_and_one_json(written: dict, tmp_path: Path):
    result = CliRunner().invoke(app, ["unlearn", save(written, tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    out = tmp_path / "out"
    assert set(told["wrote"]) == {
        str(out / name) for name in ("model", "judgement.json", "report.html")
    }
    assert told["title"].startswith(("Suppressed", "Not removed"))
    assert st.load_model(out / "model").fingerprint != st.load_model("tiny").fingerprint
    judgement = json.loads((out / "judgement.json").read_text())
    assert judgement["verdict"]["sentence"] == told["title"]
    assert judgement == show_judgement(out / "judgement.json").judgement
    assert (
        show_judgement(out / "judgement.json", title="tiny").html
        == (out / "report.html").read_text()
    )


def test_a_judgement_tells_the_request_the_run_and_what_it_is_told_from(
    written: dict, tmp_path: Path
):
    written["evaluate"]["controls"] = ["random_change"]
    written["evaluate"]["settings"]["measures"] = ["accuracy"]
    result = CliRunner().invoke(app, ["unlearn", save(written, tmp_path), "--seed", "5"])
    assert result.exit_code == 0, result.output
    judgement = json.loads((tmp_path / "out" / "judgement.json").read_text())
    request = judgement["edit"]["request"]
    assert request["seed"] == judgement["made"]["seed"] == 5
    assert request["forget"]["entities"] == ["Zed"]
    assert request["forget"]["samples"] == ["Zed went to the house"]
    assert request["retain"]["n_questions"] == request["retain"]["n_entities"] == 3
    assert judgement["made"]["packages"]["torch"]
    (control,) = judgement["controls"].values()
    assert {row["name"] for row in control["rows"]} == {"accuracy", "exact_match", "probability"}


def test_controls_through_latents_need_latents(written: dict, tmp_path: Path):
    written["evaluate"]["controls"] = ["random_latents"]
    result = CliRunner().invoke(app, ["unlearn", save(written, tmp_path)])
    assert result.exit_code == 1
    assert "without a latent" in result.output


def test_a_dry_run_prints_the_plan_and_writes_nothing(written: dict, tmp_path: Path):
    result = CliRunner().invoke(app, ["unlearn", save(written, tmp_path), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "npo" in result.output
    assert "weight tensors" in result.output
    assert not (tmp_path / "out").exists()


def test_an_edit_that_breaks_the_model_writes_nothing(written: dict, tmp_path: Path):
    written["method"] = {"type": "gradient_ascent", "lr": 0.05, "n_steps": 10}
    written["max_perplexity_ratio"] = 1.1
    result = CliRunner().invoke(app, ["unlearn", save(written, tmp_path)])
    assert result.exit_code == 1
    assert "refused" in result.output
    assert not (tmp_path / "out").exists()


def test_a_wrong_setting_of_the_method_is_named(written: dict):
    with pytest.raises(ConfigError, match="beta"):
        load_recipe(written, "method.bta=1")
    with pytest.raises(UnknownNameError, match="npo"):
        load_recipe(written, "method.type=np0")
    with pytest.raises(ConfigError, match="no type"):
        load_recipe({**written, "method": {}})
    with pytest.raises(ConfigError, match="retain"):
        load_recipe({**written, "retian": written["retain"]})


def test_a_set_that_is_empty_says_by_which_filter(written: dict):
    recipe = load_recipe(written, "forget.entities=[Nobody]")
    with pytest.raises(ConfigError, match="Nobody"):
        recipe.forget.read()


def test_the_python_of_the_page_on_unlearning_runs(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "unlearning.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(block, "unlearning.md", "exec"), {"__name__": "page"})
    assert (tmp_path / "runs" / "forgotten" / "model.safetensors").is_file()
