"""Steering files of lm-evaluation-harness do to activations what was asked for."""

import csv
from pathlib import Path

import pytest
import torch
from format_weights import tokens, trained

from saetools.errors import ConfigError, UnknownNameError
from saetools.formats import write_lm_eval, write_lm_eval_csv


def test_several_latents_are_added_as_one_vector(tmp_path: Path):
    sae, x = trained("topk", k=4), tokens()
    path = write_lm_eval(sae, {3: 2.0, 7: -1.5}, tmp_path / "a.pt")
    content = torch.load(path, weights_only=True)
    assert list(content) == ["h.3"]
    entry = content["h.3"]
    assert set(entry) == {
        "steering_vector", "steering_coefficient", "action", "bias", "head_index",
    }  # fmt: skip
    assert (entry["action"], entry["bias"]) == ("add", None)
    steered = x + entry["steering_coefficient"] * entry["steering_vector"]
    assert torch.allclose(steered, x + 2 * sae.W_dec[3] - 1.5 * sae.W_dec[7], atol=1e-5)


def test_a_clamped_latent_has_its_strength_along_its_row(tmp_path: Path):
    sae, x = trained("standard"), tokens()
    entry = torch.load(
        write_lm_eval(sae, {5: 4.0}, tmp_path / "a.pt", action="clamp"), weights_only=True
    )["h.3"]
    row = entry["steering_vector"] / entry["steering_vector"].norm()
    centred = x - entry["bias"]
    steered = centred + torch.outer(entry["steering_coefficient"] - centred @ row, row)
    assert torch.allclose(steered @ row, torch.full((len(x),), 4.0), atol=1e-4)
    assert torch.equal(entry["bias"], sae.b_dec)
    assert torch.equal(entry["steering_vector"], sae.W_dec[5])


@pytest.mark.parametrize(
    ("hook", "model", "place"),
    [
        ("blocks.5.hook_resid_post", "google/gemma-2-2b", "layers.5"),
        ("blocks.5.hook_resid_post", "gpt2", "h.5"),
        ("resid_pre.5", "gpt2", "h.4"),
        ("blocks.2.hook_mlp_out", "llama-3", "layers.2.mlp"),
    ],
)
def test_hooks_are_named_by_modules(tmp_path: Path, hook: str, model: str, place: str):
    sae = trained("topk", k=4)
    sae.meta |= {"hook_name": hook, "model": {"name": model}}
    path = write_lm_eval(sae, {0: 1.0}, tmp_path / "a.pt")
    assert list(torch.load(path, weights_only=True)) == [place]


def test_what_lm_eval_cannot_do_is_refused(tmp_path: Path):
    sae = trained("topk", k=4)
    with pytest.raises(ConfigError, match="clamps one direction"):
        write_lm_eval(sae, {0: 1.0, 1: 1.0}, tmp_path / "a.pt", action="clamp")
    with pytest.raises(UnknownNameError, match="latents 0 to 47"):
        write_lm_eval(sae, {48: 1.0}, tmp_path / "a.pt")
    with pytest.raises(UnknownNameError, match="at least one"):
        write_lm_eval(sae, {}, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match=r"must end in \.pt"):
        write_lm_eval(sae, {0: 1.0}, tmp_path / "a.csv")
    sae.meta["hook_name"] = "blocks.3.attn.hook_z"
    with pytest.raises(ConfigError, match="give hookpoint="):
        write_lm_eval(sae, {0: 1.0}, tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_csv_names_an_sae_of_another_tool(tmp_path: Path):
    path = write_lm_eval_csv(
        {12082: 240.0},
        tmp_path / "a.csv",
        loader="sae_lens",
        sparse_model="gemma-scope-2b-pt-res-canonical",
        hookpoint="layers.20",
        sae_id="layer_20/width_16k/canonical",
        description="dogs, and more",
    )
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["feature_index"] == "12082"
    assert float(row["steering_coefficient"]) == 240.0
    assert row["description"] == "dogs, and more"
    assert (row["loader"], row["action"], row["hookpoint"]) == ("sae_lens", "add", "layers.20")


def test_csv_of_two_latents_would_keep_the_last_and_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="keeps the last row of a hook alone"):
        write_lm_eval_csv(
            {1: 1.0, 2: 1.0},
            tmp_path / "a.csv",
            loader="sparsify",
            sparse_model="m",
            hookpoint="layers.3",
        )
