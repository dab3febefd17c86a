"""`saetools convert`: there and back from the shell, as JSON, and what an error tells."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from typer.testing import Result

import saetools as st
from saetools.sae import SAE

Cli = Callable[..., Result]


def _saved(folder: Path) -> SAE:
    sae = st.build_sae("batch_topk", d_in=16, n_latents=64, k=4, seed=1).with_threshold(0.7)
    sae.meta["hook_name"] = "blocks.1.hook_resid_post"
    sae.requires_grad_(False).save(folder)
    return sae


def test_an_sae_goes_to_another_tool_and_back(cli: Cli, tmp_path: Path) -> None:
    sae = _saved(tmp_path / "run" / "sae")
    there = cli("convert", tmp_path / "run", tmp_path / "theirs", "--to", "saelens", "--json")
    assert there.exit_code == 0, there.output
    shown = json.loads(there.stdout)
    assert shown["figures"]["writing: active latents a token"] > 0
    assert shown["figures"]["writing: reconstruction off by"] < 1e-4
    assert "threshold" in [note["what"] for note in shown["table"]]
    back = cli("convert", tmp_path / "theirs", tmp_path / "back", "--to", "saetools")
    assert back.exit_code == 0, back.output
    assert "reading: latents that fired" in back.output
    x = torch.randn(30, 16)
    assert torch.allclose(SAE.load(tmp_path / "back")(x), sae(x), atol=1e-6)


def test_a_dry_run_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    _saved(tmp_path / "sae")
    words = ("convert", tmp_path / "sae", tmp_path / "out", "--to", "saelens", "--dry-run")
    done = cli(*words)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("would convert")
    assert not (tmp_path / "out").exists()


def test_an_error_says_what_to_do(cli: Cli, tmp_path: Path) -> None:
    _saved(tmp_path / "sae")
    refused = cli("convert", tmp_path / "sae", tmp_path / "out", "--to", "sparsify")
    assert refused.exit_code == 1
    assert "it has no thresholds" in refused.output
    missing = cli("convert", tmp_path / "nothing", tmp_path / "out", "--to", "saelens")
    assert missing.exit_code == 1
    assert "nothing" in missing.output
