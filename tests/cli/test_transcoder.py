"""A transcoder from one YAML file: two sites in one pass, one read, the other written."""

import json
from pathlib import Path

from saetools.sae import SAE
from saetools.store import ActivationStore

ROOT = Path(__file__).resolve().parents[2]


def test_a_transcoder_is_trained_from_the_command_line(cli, recipe: Path, tmp_path: Path):
    run = tmp_path / "run"
    settings = [
        "harvest.hook_name=[resid_post.0, mlp_out.1]",
        "sae={type: transcoder, n_latents: 64, k: 4, skip: true, target_hook_name: mlp_out.1}",
    ]
    for command in ("harvest", "train"):
        result = cli(command, recipe, *settings, "--out", run, "--quiet")
        assert result.exit_code == 0, result.output
    with ActivationStore.open(run / "acts.h5") as store:
        assert len(store.hook_names) == 2
    assert SAE.load(run / "sae").target_hook_name == "mlp_out.1"
    metrics = "reconstruction,sparsity,loss_recovered,decoder_geometry,ravel"
    result = cli("evaluate", run, "--metrics", metrics)
    assert result.exit_code == 0, result.output
    report = json.loads((run / "evaluation.json").read_text())
    values = {row["name"]: row["value"] for row in report["rows"]}
    assert 0 < values["fvu"] < 1
    assert 0 < values["l0"] <= 4
    assert values["ce_spliced"] != values["ce_clean"]
    assert report["about"]["target_hook_name"] == "blocks.1.hook_mlp_out"
    assert set(report["skipped"]) == {"ravel", "encoder_decoder_cosine"}
    assert "left out ravel: it is not defined for a transcoder" in result.output
    result = cli("steer", run, "--latent", 3, "--strength", 4, "--prompt", "the ship")
    assert result.exit_code == 1
    assert "does not act where it reads" in " ".join(result.stderr.split())


def test_a_transcoder_of_a_real_mlp_keeps_most_of_the_loss(cli, shared_dir: Path, tmp_path: Path):
    settings = [
        f"subject.model={shared_dir / 'models' / 'stories260k'}",
        f"data.path={shared_dir / 'text' / 'tinystories_valid.jsonl'}",
        "harvest.hook_name=[blocks.2.mlp.hook_in, mlp_out.2]",
        "harvest.n_tokens=30000",
        "harvest.held_out_fraction=0.2",
        "sae={type: transcoder, n_latents: 512, k: 16, target_hook_name: mlp_out.2}",
        "train.n_tokens=300000",
        "evaluate.n_docs=20",
        "evaluate.metrics=null",
    ]
    run = tmp_path / "run"
    assert (
        cli("harvest", ROOT / "configs/recipes/stories260k.yaml", "--out", run, *settings).exit_code
        == 0
    )
    for command in ("train", "evaluate"):
        result = cli(command, run)
        assert result.exit_code == 0, result.output
    report = json.loads((run / "evaluation.json").read_text())
    values = {row["name"]: row["value"] for row in report["rows"]}
    assert 0 < values["fvu"] < 0.6
    assert values["ce_clean"] < values["ce_spliced"] < values["ce_mean"]
    assert values["loss_recovered_zero"] > 0.5
    assert "ravel" in report["skipped"]


def test_a_target_that_was_not_harvested_is_named(cli, harvested: Path):
    settings = "sae={type: transcoder, n_latents: 64, k: 4, target_hook_name: mlp_out.1}"
    result = cli("train", harvested, settings)
    assert result.exit_code == 1
    assert "mlp_out.1" in result.stderr
