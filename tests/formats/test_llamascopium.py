"""Llamascopium folders, made from their specification, and ours back."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from format_weights import D_IN, N_LATENTS, by_token, draw, loaded, notes, tokens, trained, weights
from safetensors.torch import save_file
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats import detect
from saetools.formats.dialects.llamascopium import _factor

HOOK = "blocks.8.hook_resid_post"
NORM = 6.5
CONFIG: dict[str, Any] = {
    "sae_type": "sae",
    "d_model": D_IN,
    "expansion_factor": 4.0,
    "use_decoder_bias": True,
    "act_fn": "jumprelu",
    "norm_activation": "dataset-wise",
    "sparsity_include_decoder_norm": True,
    "top_k": 6,
    "use_glu_encoder": False,
    "hook_point_in": HOOK,
    "hook_point_out": HOOK,
}


def state(**changed: Tensor) -> dict[str, Tensor]:
    w = weights()
    found = {
        "W_E": w["W_enc"],
        "b_E": w["b_enc"],
        "W_D": w["W_dec"],
        "b_D": w["b_dec"],
        "activation_function.log_jumprelu_threshold": w["threshold"].log(),
        f"dataset_average_activation_norm.{HOOK}": torch.tensor(NORM),
    }
    return found | {name.replace("__", "."): tensor for name, tensor in changed.items()}


def folder(path: Path, config: dict[str, Any] | None = None, **changed: Tensor) -> Path:
    path.mkdir()
    save_file(state(**changed), path / "sae_weights.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    return path


def expected(x: Tensor, act: str, s_in: float, s_out: float, *, by_norm: bool = True) -> Tensor:
    w = weights()
    norms = w["W_dec"].norm(dim=1) if by_norm else torch.ones(N_LATENTS)
    scores = ((s_in * x) @ w["W_enc"] + w["b_enc"]) * norms
    kept = {
        "jumprelu": scores * (scores > w["threshold"]),
        "topk": by_token(scores, 6),
        "relu": scores.relu(),
    }[act]
    return (kept / norms @ w["W_dec"] + w["b_dec"]) / s_out


S = math.sqrt(D_IN) / NORM


@pytest.mark.parametrize("act", ["jumprelu", "topk", "relu"])
@pytest.mark.parametrize("by_norm", [True, False])
def test_norms_of_data_set_and_decoder_are_folded(tmp_path: Path, act: str, by_norm: bool):
    config = {"act_fn": act, "sparsity_include_decoder_norm": by_norm}
    sae, x = loaded(folder(tmp_path / "a", config)), tokens()
    assert torch.allclose(sae(x), expected(x, act, S, S, by_norm=by_norm), atol=1e-4)
    assert ("decoder norms" in notes(sae)) == by_norm
    assert "folded in" in notes(sae)["normalisation"]
    assert sae.meta["hook_name"] == HOOK


def test_norms_that_are_folded_in_already_are_not_looked_at(tmp_path: Path):
    # Their full_state_dict saves torch.empty(()) where there is no norm: whatever was in memory.
    garbage = {f"dataset_average_activation_norm.{HOOK}": torch.tensor(math.nan)}
    sae = loaded(folder(tmp_path / "a", {"norm_activation": "inference"}, **garbage))
    assert torch.allclose(sae(tokens()), expected(tokens(), "jumprelu", 1, 1), atol=1e-4)


@pytest.mark.parametrize("value", [math.nan, 0.0, -1.0, math.inf])
def test_norms_that_are_needed_and_are_none_are_refused(tmp_path: Path, value: float):
    garbage = {f"dataset_average_activation_norm.{HOOK}": torch.tensor(value)}
    with pytest.raises(FormatError, match="nobody can tell what the SAE computes"):
        loaded(folder(tmp_path / "a", **garbage))


def test_transcoder_has_a_norm_for_each_hook(tmp_path: Path):
    out = "blocks.8.hook_mlp_out"
    norms = {f"dataset_average_activation_norm.{out}": torch.tensor(0.8)}
    sae = loaded(folder(tmp_path / "a", {"hook_point_out": out}, **norms))
    x, s_out = tokens(), math.sqrt(D_IN) / 0.8
    assert sae.config.type == "transcoder"
    assert sae.target_hook_name == out
    assert torch.allclose(sae(x), expected(x, "jumprelu", S, s_out), atol=1e-4)


def test_token_wise_norms_stay_token_wise(tmp_path: Path):
    sae, x = loaded(folder(tmp_path / "a", {"norm_activation": "token-wise"})), tokens()
    factor = math.sqrt(D_IN) / x.norm(dim=1, keepdim=True)
    assert torch.allclose(sae(x), expected(x * factor, "jumprelu", 1, 1) / factor, atol=1e-4)
    assert "kept" in notes(sae)["token-wise"]


def test_decoder_without_a_bias_has_none(tmp_path: Path):
    path = folder(tmp_path / "a", {"use_decoder_bias": False}, b_D=torch.zeros(D_IN))
    held = state()
    del held["b_D"]
    save_file(held, path / "sae_weights.safetensors")
    assert torch.equal(loaded(path).b_dec, torch.zeros(D_IN))


def test_weights_are_looked_for_where_their_loader_looks(tmp_path: Path):
    x = tokens()
    first = loaded(folder(tmp_path / "a"))
    (tmp_path / "a" / "checkpoints").mkdir()
    moved = tmp_path / "a" / "checkpoints" / "final.safetensors"
    (tmp_path / "a" / "sae_weights.safetensors").rename(moved)
    assert torch.equal(loaded(tmp_path / "a")(x), first(x))
    moved.unlink()
    torch.save({"sae": state(), "version": "1.0"}, tmp_path / "a" / "sae_weights.pt")
    assert torch.equal(loaded(tmp_path / "a")(x), first(x))
    (tmp_path / "a" / "sae_weights.pt").unlink()
    with pytest.raises(FormatError, match="no weights"):
        loaded(tmp_path / "a")
    (tmp_path / "a" / "sae_weights.dcp").mkdir()
    with pytest.raises(FormatError, match="a distributed checkpoint"):
        loaded(tmp_path / "a")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"sae_type": "crosscoder"}, "several activations at once"),
        ({"sae_type": "clt"}, "writes to several layers"),
        ({"sae_type": "lorsa"}, "sparse attention layer"),
        ({"act_fn": "batchtopk"}, "selects over the whole batch at inference too"),
        ({"use_glu_encoder": True}, "products of two maps"),
        ({"norm_activation": "batch-wise"}, "norm_activation 'batch-wise'"),
        ({"norm_activation": "token-wise", "hook_point_out": "x"}, "'token-wise' where one hook"),
        ({"act_fn": "topk", "top_k": 0}, "a whole number from 1 for 'top_k'"),
    ],
)
def test_what_ours_cannot_express_is_refused_with_a_sentence(
    tmp_path: Path, config: dict[str, Any], sentence: str
):
    with pytest.raises(FormatError, match=sentence):
        loaded(folder(tmp_path / "a", config))


WRITTEN: list[tuple[str, dict[str, Any], str]] = [
    ("standard", {}, "relu"),
    ("topk", {"k": 4}, "topk"),
    ("hierarchical_topk", {"k": 4}, "topk"),
    ("jumprelu", {}, "jumprelu"),
    ("batch_topk", {"k": 4}, "jumprelu"),
    ("matryoshka", {"k": 4}, "jumprelu"),
    ("matryoshka", {"k": 4, "selection": "topk"}, "topk"),
    ("transcoder", {"k": 4}, "topk"),
    (
        "transcoder",
        {"k": 4, "selection": "batch_topk", "target_hook_name": "mlp_out.3"},
        "jumprelu",
    ),
]


@pytest.mark.parametrize(("kind", "fields", "act"), WRITTEN, ids=str)
def test_what_is_written_comes_back_with_the_same_outputs(
    tmp_path: Path, kind: str, fields: dict[str, Any], act: str
):
    sae, x = trained(kind, **fields), tokens()
    sae.save(tmp_path / "a", format="llamascopium")
    assert detect(tmp_path / "a") == "llamascopium"
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["act_fn"] == act
    assert int(config["d_model"] * config["expansion_factor"]) == N_LATENTS
    # An ordinary SAE reads and writes one hook: the test that their export has the wrong way round.
    assert (config["hook_point_in"] == config["hook_point_out"]) == (kind != "transcoder")
    back = loaded(tmp_path / "a")
    assert torch.allclose(back(x), sae(x), atol=1e-4)
    assert torch.allclose(back.encode(x).dense(), sae.encode(x).dense(), atol=1e-4)
    assert json.loads((tmp_path / "a" / "conversion.json").read_text())["proof"]["holds"]


def test_thresholds_of_zero_have_a_logarithm(tmp_path: Path):
    sae = trained("jumprelu")
    sae.threshold.zero_()
    sae.save(tmp_path / "a", format="llamascopium")
    back = loaded(tmp_path / "a")
    assert torch.allclose(back(tokens()), sae(tokens()), atol=1e-4)


@pytest.mark.parametrize("n_latents", [13, 37, 4095])
def test_expansion_factors_that_are_no_whole_numbers_give_n_latents(n_latents: int):
    assert all(int(d * _factor(n_latents, d)) == n_latents for d in range(1, 800))


@pytest.mark.parametrize(
    ("kind", "fields", "sentence"),
    [
        ("gated", {}, "no selection like that of a gated"),
        ("transcoder", {"k": 4, "skip": True}, "no linear map beside the latents"),
        ("transcoder", {"k": 4, "d_out": 7}, "one width"),
    ],
)
def test_what_it_cannot_hold_is_refused_with_a_sentence(
    tmp_path: Path, kind: str, fields: dict[str, Any], sentence: str
):
    with pytest.raises(FormatError, match=sentence):
        trained(kind, **fields).save(tmp_path / "a", format="llamascopium")


def test_a_shape_that_the_other_tensors_deny_is_refused(tmp_path: Path):
    with pytest.raises(FormatError, match="b_enc should be"):
        loaded(folder(tmp_path / "a", b_E=draw(N_LATENTS - 1, seed=1)))
