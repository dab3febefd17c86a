"""The whole path on real language models and real stories, command by command."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs" / "recipes" / "stories260k.yaml"


@pytest.fixture(scope="module", params=["stories260k", "tinystories-llama-1m"])
def run(request: pytest.FixtureRequest, cli, shared_dir: Path, tmp_path_factory) -> Path:  # type: ignore[no-untyped-def]
    """A run of one model, harvested, trained, evaluated and named."""
    out: Path = tmp_path_factory.mktemp("runs") / request.param
    settings = [
        f"subject.model={shared_dir / 'models' / request.param}",
        f"data.path={shared_dir / 'text' / 'tinystories_valid.jsonl'}",
        "harvest.n_tokens=30000",
        "harvest.held_out_fraction=0.2",
        "sae.n_latents=512",
        "train.n_tokens=500000",
        "evaluate.n_docs=20",
    ]
    assert cli("harvest", RECIPE, "--out", out, *settings).exit_code == 0
    for command in ("train", "evaluate", "name"):
        result = cli(command, out)
        assert result.exit_code == 0, result.output
    return out


def test_the_reconstruction_recovers_most_of_the_loss(run: Path) -> None:
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    values = {row["name"]: row["value"] for row in rows}
    assert 1.0 < values["ce_clean"] < 2.6
    assert values["ce_clean"] < values["ce_spliced"] < min(values["ce_mean"], values["ce_zero"])
    assert values["loss_recovered_mean"] > 0.7
    assert values["fvu"] < 0.4


def test_steering_changes_greedy_text_and_says_by_how_much(cli, run: Path) -> None:  # type: ignore[no-untyped-def]
    options = ["--latent", 3, "--prompt", "Once upon a time", "--n-tokens", 20]
    result = cli("steer", run, *options, "--strength", 1, "--unit", "residual_norm")
    assert result.exit_code == 0, result.output
    written = json.loads((run / "steer.json").read_text())
    texts = {row["model"]: row["text"] for row in written["results"]}
    assert texts["as it is"].startswith("Once upon a time")
    assert texts["as it is"] != texts["changed"]


def test_ablating_every_latent_of_a_prompt_changes_its_continuation(cli, run: Path) -> None:  # type: ignore[no-untyped-def]
    latents = [word for i in range(0, 512, 2) for word in ("--latent", i)]
    result = cli("ablate", run, *latents, "--prompt", "One day, a girl", "--n-tokens", 20)
    assert result.exit_code == 0, result.output
    assert (run / "ablate_latents.json").exists()
    assert "switched off" in result.output
