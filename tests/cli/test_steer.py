"""`saetools steer` and `ablate` on the command line: positions, conditions, sweeps, recipes."""

import json
from pathlib import Path

import pytest
import torch


def answer(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


STEER = ["--strength", 50, "--prompt", "the ship", "--n-tokens", 6, "--json"]


def test_steering_the_prompt_only_edits_no_generated_token(cli, trained: Path):
    words = ["steer", trained, "--latent", 3, *STEER]
    answer(cli(*words))
    everywhere = json.loads((trained / "steer.json").read_text())["probe"]["n_tokens"]
    answer(cli(*words, "--positions", "prompt"))
    prompt = json.loads((trained / "steer.json").read_text())["probe"]["n_tokens"]
    answer(cli(*words, "--positions", "generated"))
    generated = json.loads((trained / "steer.json").read_text())["probe"]["n_tokens"]
    assert generated == 5  # the sixth is never fed back
    assert prompt + generated == everywhere


def test_a_condition_that_is_never_met_leaves_the_model_as_it_is(cli, trained: Path):
    words = ["steer", trained, "--latent", 3, *STEER, "--when-latent", 5]
    found = answer(cli(*words, "--when-above", 1e9))
    before, after = found["table"]
    assert before["text"] == after["text"]
    assert before["nats per prompt token"] == after["nats per prompt token"]
    assert "fired on 0 of" in found["text"]


def test_a_recipe_says_the_same_as_the_flags_that_it_was_made_of(cli, trained, tmp_path: Path):
    recipe = tmp_path / "recipe.json"
    flags = ["--latent", 3, *STEER, "--positions", "generated", "--save", recipe]
    wanted = answer(cli("steer", trained, *flags))
    assert str(recipe) in wanted["wrote"]
    found = answer(
        cli("steer", trained, "--recipe", recipe, "--prompt", "the ship", "--n-tokens", 6, "--json")
    )
    assert found["table"] == wanted["table"]
    from saetools.intervene.recipe import InterventionRecipe

    (request,) = InterventionRecipe.load(recipe).requests
    assert request["operation"] == {"type": "add", "latents": {"3": 50.0}, "unit": "absolute"}
    assert request["sae"]["path"] == str((trained / "sae").resolve())


def test_a_recipe_of_another_run_or_a_newer_format_is_one_clear_error(
    cli, trained, recipe: Path, tmp_path: Path
):
    saved = tmp_path / "a.json"
    assert cli("steer", trained, "--latent", 3, *STEER, "--save", saved).exit_code == 0
    other = tmp_path / "other"
    for words in (["harvest", recipe, "--out", other], ["train", other, "sae.k=3"]):
        assert cli(*words, "--quiet").exit_code == 0
    result = cli("steer", other, "--recipe", saved, "--prompt", "the ship")
    assert result.exit_code == 1
    assert "fingerprint" in result.stderr
    assert not (other / "steer.json").exists()
    body = json.loads(saved.read_text())
    saved.write_text(json.dumps({**body, "format": "saetools-intervention/9"}))
    result = cli("steer", trained, "--recipe", saved, "--prompt", "the ship")
    assert result.exit_code == 1
    assert "update saetools" in result.stderr


def test_a_steering_file_for_lm_eval_needs_every_position(cli, trained: Path, tmp_path: Path):
    path = tmp_path / "steer.pt"
    words = ["steer", trained, "--latent", 3, *STEER, "--save", path]
    refused = cli(*words)
    assert refused.exit_code == 1
    assert "BOS and padding" in refused.stderr
    answer(cli(*words, "--positions", "every"))
    (entry,) = torch.load(path, weights_only=True).values()
    assert entry["action"] == "add"
    assert float(entry["steering_vector"].norm()) == pytest.approx(50, rel=1e-4)
    assert "ends in .json" in cli(*words[:-1], tmp_path / "steer.txt").stderr


def test_a_sweep_writes_its_figures_and_its_curve_and_says_what_to_run(cli, trained: Path):
    words = ["--latent", 3, "--sweep", "--strengths", "0,1,60", "--n-tokens", 4]
    found = answer(cli("steer", trained, *words, "--kl-limit", 0.5, "--json"))
    assert [row["strength"] for row in found["table"]] == [0.0, 1.0, 60.0]
    assert set(found["table"][0]) >= {"effect", "kl", "repetition", "perplexity"}
    assert found["table"][0]["kl"] == 0
    assert found["table"][2]["kl"] > found["table"][1]["kl"] > 0
    written = json.loads((trained / "steer_sweep.json").read_text())
    assert written["points"][2]["damages"]["kl"] == {"value": found["table"][2]["kl"], "limit": 0.5}
    assert written["chosen"] == found["figures"]["chosen strength"]
    assert (trained / "steer_sweep.svg").read_text().startswith("<svg")
    if written["chosen"] is not None:
        assert f"--strength {written['chosen']:g}" in found["next"]


def test_a_text_encoder_is_swept_by_its_embeddings(cli, recipe: Path, tmp_path: Path):
    run = tmp_path / "encoder"
    for words in (["harvest", recipe, "subject.model=tiny-encoder", "--out", run], ["train", run]):
        assert cli(*words, "--quiet").exit_code == 0
    found = answer(cli("steer", run, "--latent", 1, "--sweep", "--strengths", "20", "--json"))
    still, moved = found["table"]
    assert still["cosine_loss"] == pytest.approx(0, abs=1e-6)
    assert moved["cosine_loss"] > 1e-4
    result = cli("steer", run, "--latent", 1, "--sweep", "--kl-limit", 0.1)
    assert "language models" in result.stderr


def test_latents_are_clamped_or_set_to_their_mean(cli, trained: Path):
    words = ["ablate", trained, "--latent", 3, "--prompt", "the ship and", "--n-tokens", 4]
    clamped = answer(cli(*words, "--mode", "clamp", "--value", 60, "--json"))
    before, after = clamped["table"]
    assert before["nats per prompt token"] != after["nats per prompt token"]
    assert "clamped 3" in clamped["title"]
    answer(cli(*words, "--mode", "mean", "--json"))
    assert json.loads((trained / "ablate_latents.json").read_text())["mode"] == "mean"
    assert "value=" in cli(*words, "--mode", "clamp").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--latent", 3], "--prompt"),
        (["--sweep"], "--latent"),
        (["--latent", 3, "--recipe", "r.json", "--prompt", "a"], "--recipe"),
        (["--recipe", "none.json", "--prompt", "a"], "cannot read"),
        (["--latent", 3, "--sweep", "--strengths", "one,two"], "commas"),
        (["--latent", 3, "--prompt", "a", "--when-latent", 9999], "9999"),
    ],
)
def test_what_cannot_be_meant_is_refused(cli, trained, files_of, words, message):
    before = files_of(trained)
    result = cli("steer", trained, *words)
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert files_of(trained) == before
