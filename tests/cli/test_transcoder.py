"""A transcoder from one YAML file: two sites in one pass, one read, the other written."""

from pathlib import Path

from saetools.sae import SAE
from saetools.store import ActivationStore


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
    result = cli("steer", run, "--latent", 3, "--strength", 4, "--prompt", "the ship")
    assert result.exit_code == 1
    assert "does not act where it reads" in " ".join(result.stderr.split())


def test_a_target_that_was_not_harvested_is_named(cli, harvested: Path):
    settings = "sae={type: transcoder, n_latents: 64, k: 4, target_hook_name: mlp_out.1}"
    result = cli("train", harvested, settings)
    assert result.exit_code == 1
    assert "mlp_out.1" in result.stderr
