"""`saetools train --sweep`: a grid of SAEs on one read of the store, each a run of its own."""

import json
from pathlib import Path

import torch

from saetools.sae import SAE


def test_a_grid_is_trained_in_one_pass_and_each_member_is_a_run(cli, harvested: Path):
    result = cli(
        "train", harvested, "--sweep", "sae.k=2,4", "--sweep", "train.init_seed=0,7", "--json"
    )
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    rows = {row["member"]: row for row in shown["table"]}
    assert "k2-init_seed0 and k2-init_seed7 agree: mean cosine 0." in shown["text"]
    assert shown["text"].count(" agree: ") == 2, "only SAEs that differ by the seed are compared"
    assert set(rows) == {"k2-init_seed0", "k2-init_seed7", "k4-init_seed0", "k4-init_seed7"}
    sweep = harvested / "sweep"
    assert SAE.load(sweep / "k2-init_seed0" / "sae").config.k == 2  # type: ignore[attr-defined]
    assert rows["k4-init_seed0"]["l0"] > rows["k2-init_seed0"]["l0"]
    member = sweep / "k4-init_seed7"
    assert (member / "acts.h5").is_symlink()
    result = cli("evaluate", member, "--metrics", "sparsity", "--quiet")
    assert result.exit_code == 0, result.output


def test_a_member_equals_the_same_run_alone(cli, harvested: Path):
    assert cli("train", harvested, "--sweep", "sae.k=2,4", "--quiet").exit_code == 0
    assert cli("train", harvested, "sae.k=4", "--quiet").exit_code == 0
    alone = SAE.load(harvested / "sae").state_dict()
    member = SAE.load(harvested / "sweep" / "k4" / "sae").state_dict()
    assert all(torch.equal(alone[name], member[name]) for name in alone)


def test_a_dry_run_lists_the_members_and_writes_nothing(cli, harvested: Path):
    blocks = "sae=[{type: topk, n_latents: 64, k: 4}, {type: batch_topk, n_latents: 64, k: 4}]"
    result = cli("train", harvested, "--sweep", blocks, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert [row["type"] for row in json.loads(result.stdout)["table"]] == ["topk", "batch_topk"]
    assert not (harvested / "sweep").exists()


def test_what_decides_the_rows_cannot_be_swept(cli, harvested: Path):
    for grid, words in {
        "harvest.dtype=float16,float32": "share one store",
        "train.n_tokens=1000,2000": "read the same batches",
        "sae.k=": "give values",
        "sae.k=2,999": "k is 999",
    }.items():
        result = cli("train", harvested, "--sweep", grid)
        assert result.exit_code == 1, grid
        assert words in " ".join(result.stderr.split()), (grid, result.stderr)
        assert not (harvested / "sae").exists()
