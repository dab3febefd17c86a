"""From texts to a page through the command line, on a model that the package makes itself."""

import csv
import json
from pathlib import Path

import pytest

from saetools.cli import demo
from saetools.config import load_config


def test_every_command_writes_its_file_and_names_the_next(cli, recipe: Path, tmp_path: Path):
    run = tmp_path / "run"
    steps = [
        (["harvest", recipe, "--out", run], ["acts.h5", "config.yaml", "env.json"], "train"),
        (
            ["train", run],
            ["sae/config.json", "metrics.jsonl", "metrics.csv", "health.json"],
            "evaluate",
        ),
        (["evaluate", run], ["evaluation.json"], "name"),
        (["name", run], ["index.h5", "names.csv"], "explore"),
        (["ablate", run, "--concept", "sea"], ["ablate.json"], "explore"),
        (["explore", run], ["report.html"], "open"),
    ]
    for words, files, following in steps:
        result = cli(*words)
        assert result.exit_code == 0, (words, result.output)
        assert all((run / file).is_file() for file in files), words
        assert f"{following} {run}" in result.stdout, words
    assert not list(run.rglob("*.partial"))
    stages = {"harvest", "train", "evaluate", "index", "name", "ablate", "explore"}
    assert set(json.loads((run / "env.json").read_text())) == stages


def test_a_command_takes_the_folder_a_folder_inside_or_its_config(cli, trained: Path):
    for where in (trained, trained / "sae", trained / "config.yaml"):
        result = cli("evaluate", where, "--metrics", "sparsity", "--quiet")
        assert result.exit_code == 0, (where, result.output)
        (trained / "evaluation.json").unlink()


def test_steering_a_language_model_shows_both_texts(cli, trained: Path):
    words = ["--latent", 3, "--strength", 50, "--prompt", "the ship", "--n-tokens", 8]
    result = cli("steer", trained, *words, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    before, after = answer["table"]
    assert before["text"] != after["text"]
    written = json.loads((trained / "steer.json").read_text())
    assert written["latents"] == [3]
    assert written["probe"]["n_tokens"] > 0


def test_steering_by_name_finds_the_latent(cli, trained: Path):
    assert cli("name", trained, "--quiet").exit_code == 0
    with (trained / "names.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["name"]]
    names = [row["name"] for row in rows]
    unique = next(row for row in rows if names.count(row["name"]) == 1)
    result = cli("steer", trained, "--name", unique["name"], "--prompt", "the", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads((trained / "steer.json").read_text())["latents"] == [int(unique["latent"])]
    missing = cli("steer", trained, "--name", "no such name", "--prompt", "the")
    assert missing.exit_code == 1
    assert "no such name" in missing.stderr


def test_a_name_that_a_person_wrote_outlives_naming_again(cli, trained: Path):
    assert cli("name", trained, "--quiet").exit_code == 0
    table = trained / "names.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0] |= {"name": "my own name", "namer": "manual"}
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert cli("name", trained, "--quiet").exit_code == 0
    assert "my own name" in table.read_text()


def test_ablating_latents_on_a_prompt(cli, trained: Path):
    result = cli("ablate", trained, "--latent", 3, "--prompt", "the ship and", "--n-tokens", 4)
    assert result.exit_code == 0, result.output
    assert (trained / "ablate_latents.json").is_file()


def test_a_text_encoder_runs_the_path_and_steers_to_nearest_texts(cli, recipe, tmp_path: Path):
    run = tmp_path / "encoder"
    for words in (["harvest", recipe, "subject.model=tiny-encoder", "--out", run], ["train", run]):
        result = cli(*words, "--quiet")
        assert result.exit_code == 0, result.output
    result = cli("steer", run, "--latent", 1, "--strength", 20, "--prompt", "a ship", "--json")
    assert result.exit_code == 0, result.output
    before, after = json.loads(result.stdout)["table"]
    assert before["cosine to unchanged"] == pytest.approx(1.0, abs=1e-5)
    assert after["cosine to unchanged"] < before["cosine to unchanged"]
    assert before["nearest texts"]


def test_the_demo_runs_the_stages_and_keeps_what_is_finished(cli, recipe, tmp_path, monkeypatch):
    encoder = demo.HALVES["encoder"]._replace(recipe=recipe)
    monkeypatch.setitem(demo.HALVES, "encoder", encoder)
    run = tmp_path / "demo"
    first = cli("demo", "--only", "encoder", "--out", run, "--json")
    assert first.exit_code == 0, first.output
    answer = json.loads(first.stdout)
    assert [row["stage"] for row in answer["table"]] == list(encoder.stages)
    assert all(row["seconds"] >= 0 for row in answer["table"])
    assert "encoder.fvu" in answer["figures"]
    again = json.loads(cli("demo", "--only", "encoder", "--out", run, "--json").stdout)
    assert {row["result"] for row in again["table"]} == {"kept"}
    other = ("--only", "encoder", "evaluate.metrics=[sparsity]")
    changed = json.loads(cli("demo", *other, "--out", run, "--json").stdout)
    redone = {row["stage"] for row in changed["table"] if row["result"] != "kept"}
    assert redone == {"evaluate", "explore"}


def test_a_finished_stage_is_kept_and_no_resume_makes_it_anew(cli, trained: Path):
    before = (trained / "sae" / "sae.safetensors").read_bytes()
    stamp = (trained / "sae" / "sae.safetensors").stat().st_mtime_ns
    kept = cli("train", trained)
    assert "already" in kept.stdout
    assert (trained / "sae" / "sae.safetensors").stat().st_mtime_ns == stamp
    assert cli("train", trained, "--no-resume", "--quiet").exit_code == 0
    assert (trained / "sae" / "sae.safetensors").stat().st_mtime_ns != stamp
    assert (trained / "sae" / "sae.safetensors").read_bytes() == before


def test_the_same_seed_gives_the_same_run_and_another_seed_another(cli, recipe, tmp_path: Path):
    weights = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = tmp_path / name
        for command in ("harvest", "train"):
            result = cli(command, recipe, "--out", run, "--seed", seed, "--quiet")
            assert result.exit_code == 0, result.output
        weights[name] = (run / "sae" / "sae.safetensors").read_bytes()
    assert weights["a"] == weights["b"]
    assert weights["a"] != weights["c"]


def test_config_yaml_in_the_folder_is_the_resolved_run(cli, recipe: Path, trained: Path):
    config = load_config(trained / "config.yaml")
    assert config.train["batch_tokens"] == 512
    assert "lr" in config.train  # a default of the training plug-in, filled in
    assert "d_in" not in config.sae.fields
