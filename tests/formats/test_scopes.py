"""Gemma Scope (1 and 2) and Llama Scope: files made from their specification, and ours back."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from format_weights import D_IN, N_LATENTS, by_token, draw, loaded, notes, tokens, trained, weights
from safetensors.torch import load_file, save_file
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats import detect


def jumped(x: Tensor, w: dict[str, Tensor], threshold: Tensor | None = None) -> Tensor:
    """Reconstruction of a JumpReLU SAE that takes no b_dec off its input."""
    a = x @ w["W_enc"] + w["b_enc"]
    return a * (a > (w["threshold"] if threshold is None else threshold)) @ w["W_dec"] + w["b_dec"]


def gemma(folder: Path, **changed: Any) -> Path:
    folder.mkdir(parents=True)
    arrays = weights() | changed
    np.savez(folder / "params.npz", **{k: np.asarray(v) for k, v in arrays.items()})
    return folder


def test_gemma_scope_takes_no_b_dec_off_its_input(tmp_path: Path):
    name = tmp_path / "gemma-scope-2b-pt-res" / "layer_5" / "width_16k" / "average_l0_68"
    sae, x, w = loaded(gemma(name)), tokens(), weights()
    assert torch.allclose(sae(x), jumped(x, w), atol=1e-4)
    assert "b_enc gains b_dec @ W_enc" in notes(sae)["b_dec"]
    # The common mistake, b_dec taken off as well, is another function.
    assert not torch.allclose(sae(x), jumped(x - w["b_dec"], w), atol=0.1)
    assert sae.meta["hook_name"] == "blocks.5.hook_resid_post"
    assert sae.meta["model"] == {"name": "google/gemma-2-2b"}
    assert sae.meta["l0"] == 68


@pytest.mark.parametrize(
    ("path", "hook", "model"),
    [
        ("gemma-scope-9b-pt-mlp/layer_20/a", "blocks.20.hook_mlp_out", "google/gemma-2-9b"),
        ("gemma-scope-9b-it-res/layer_9/a", "blocks.9.hook_resid_post", "google/gemma-2-9b-it"),
        ("gemma-scope-2b-pt-att/layer_0/a", "blocks.0.attn.hook_z", "google/gemma-2-2b"),
        (
            "models--google--gemma-scope-2b-pt-res/snapshots/1f2/layer_12/a",
            "blocks.12.hook_resid_post",
            "google/gemma-2-2b",
        ),
    ],
)
def test_gemma_scope_is_placed_by_its_path(tmp_path: Path, path: str, hook: str, model: str):
    sae = loaded(gemma(tmp_path / path))
    assert (sae.meta["hook_name"], sae.meta["model"]) == (hook, {"name": model})


def test_gemma_scope_outside_its_repository_has_no_hook(tmp_path: Path):
    sae = loaded(gemma(tmp_path / "somewhere"))
    assert "hook_name" not in sae.meta
    assert "not in the files" in notes(sae)["hook_name"]


def test_gemma_scope_of_the_embedding_reads_what_the_model_multiplied(tmp_path: Path):
    name = tmp_path / "gemma-scope-2b-pt-res" / "embedding" / "width_4k" / "average_l0_6"
    sae, w = loaded(gemma(name)), weights()
    rows = tokens()  # of the embedding matrix; hooks see them times √d_in
    scale = math.sqrt(D_IN)
    assert torch.allclose(sae(rows * scale), jumped(rows, w) * scale, atol=1e-4)
    assert sae.meta["hook_name"] == "hook_embed"


def test_gemma_scope_transcoder_writes_another_hook(tmp_path: Path):
    name = tmp_path / "gemma-scope-2b-pt-transcoders" / "layer_7" / "width_16k"
    sae, x = loaded(gemma(name)), tokens()
    assert sae.config.type == "transcoder"
    assert sae.target_hook_name == "blocks.7.hook_mlp_out"
    assert torch.allclose(sae(x), jumped(x, weights()), atol=1e-4)
    assert torch.equal(sae.get_buffer("threshold"), weights()["threshold"])


def test_gemma_scope_with_a_factor_of_unknown_use_is_refused(tmp_path: Path):
    folder = gemma(tmp_path / "a", scaling_factor=torch.full((N_LATENTS,), 2.0))
    with pytest.raises(FormatError, match="scaling_factor between 2 and 2"):
        loaded(folder)
    assert loaded(gemma(tmp_path / "b", scaling_factor=torch.ones(N_LATENTS))).meta["converted"]


def test_threshold_that_the_file_has_twice_as_high_is_another_sae(tmp_path: Path):
    x, w = tokens(), weights()
    sae = loaded(gemma(tmp_path / "a", threshold=2 * w["threshold"]))
    assert torch.allclose(sae(x), jumped(x, w, 2 * w["threshold"]), atol=1e-4)
    assert not torch.allclose(sae(x), jumped(x, w), atol=0.1)


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
def test_weights_that_do_not_fit_or_are_no_numbers_are_refused(tmp_path: Path, name: str):
    broken = weights()[name].clone()
    broken.view(-1)[0] = math.nan
    with pytest.raises(FormatError, match="NaN"):
        loaded(gemma(tmp_path / "nan", **{name: broken}))
    with pytest.raises(FormatError, match="do not fit each other"):
        loaded(gemma(tmp_path / "cut", **{name: weights()[name][..., :-1].contiguous()}))


def gemma_2(folder: Path, config: dict[str, Any] | None = None, **changed: Tensor) -> Path:
    folder.mkdir()
    w = weights() | changed
    lower = {"w_enc": "W_enc", "w_dec": "W_dec"}
    names = ("w_enc", "b_enc", "w_dec", "b_dec", "threshold")
    tensors = {name: w[lower.get(name, name)].contiguous() for name in names}
    if "skip" in w:
        tensors["affine_skip_connection"] = w["skip"]
    save_file(tensors, folder / "params.safetensors")
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architecture": "jump_relu",
                "model_name": "google/gemma-3-1b-pt",
                "hf_hook_point_in": "model.layers.10.output",
                "hf_hook_point_out": "model.layers.10.output",
                "affine_connection": False,
                "width": N_LATENTS,
                "l0": 20,
            }
            | (config or {})
        )
    )
    return folder


def test_gemma_scope_2_is_read_with_its_hooks(tmp_path: Path):
    sae, x = loaded(gemma_2(tmp_path / "a")), tokens()
    assert torch.allclose(sae(x), jumped(x, weights()), atol=1e-4)
    assert sae.meta["hook_name"] == "blocks.10.hook_resid_post"
    assert sae.meta["model"] == {"name": "google/gemma-3-1b-pt"}
    assert sae.meta["l0"] == 20


def test_gemma_scope_2_skip_connection_is_transposed(tmp_path: Path):
    skip, x = draw(D_IN, D_IN, seed=8), tokens()
    config = {
        "hf_hook_point_in": "model.layers.4.pre_feedforward_layernorm.output",
        "hf_hook_point_out": "model.layers.4.post_feedforward_layernorm.output",
        "affine_connection": True,
    }
    sae = loaded(gemma_2(tmp_path / "a", config, skip=skip))
    assert sae.config.type == "transcoder"
    assert sae.target_hook_name == "blocks.4.hook_mlp_out"
    assert torch.allclose(sae(x), jumped(x, weights()) + x @ skip, atol=1e-4)
    # SAELens takes it as it is, which is another map.
    assert not torch.allclose(sae(x), jumped(x, weights()) + x @ skip.T, atol=0.1)


def test_gemma_scope_2_cross_layer_transcoder_is_refused(tmp_path: Path):
    with pytest.raises(FormatError, match="a latent writes to 3 layers"):
        loaded(gemma_2(tmp_path / "a", W_dec=draw(N_LATENTS, 3, D_IN, seed=1)))


def test_gemma_scope_2_of_another_architecture_is_refused(tmp_path: Path):
    with pytest.raises(FormatError, match="says architecture 'top_k'"):
        loaded(gemma_2(tmp_path / "a", {"architecture": "top_k"}))


@pytest.mark.parametrize(
    "hook",
    [
        "blocks.3.hook_resid_post",
        "blocks.3.attn.hook_z",
        "blocks.3.hook_mlp_out",
        "blocks.3.ln2.hook_normalized",
    ],
)
def test_gemma_scope_2_hook_names_come_back(tmp_path: Path, hook: str):
    sae = trained("jumprelu")
    sae.meta["hook_name"] = hook
    sae.save(tmp_path / "a", format="gemma_scope_2")
    assert loaded(tmp_path / "a").meta["hook_name"] == hook


NORM = 5.25


def llama(folder: Path, config: dict[str, Any] | None = None, **changed: Tensor) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    w = weights() | changed
    tensors = {
        "encoder.weight": w["W_enc"].T,
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T,
        "decoder.bias": w["b_dec"],
    }
    save_file(
        {k: v.contiguous() for k, v in tensors.items()},
        folder / "checkpoints" / "final.safetensors",
    )
    (folder / "hyperparams.json").write_text(json.dumps(LLAMA | (config or {})))
    return folder


LLAMA: dict[str, Any] = {
    "d_model": D_IN,
    "d_sae": N_LATENTS,
    "act_fn": "jumprelu",
    "jump_relu_threshold": 0.75,
    "norm_activation": "dataset-wise",
    "dataset_average_activation_norm": {"in": NORM, "out": NORM},
    "hook_point_in": "blocks.15.hook_resid_post",
    "hook_point_out": "blocks.15.hook_resid_post",
    "top_k": 50,
}


def test_llama_scope_scales_input_threshold_and_output(tmp_path: Path):
    sae, x, w = loaded(llama(tmp_path / "a")), tokens(), weights()
    s = math.sqrt(D_IN) / NORM
    a = (s * x) @ w["W_enc"] + w["b_enc"]
    expected = (a * (a > 0.75 * s) @ w["W_dec"] + w["b_dec"]) / s
    assert torch.allclose(sae(x), expected, atol=1e-4)
    # What is lost on the way elsewhere: the factor of the threshold, and that of the input.
    unscaled = (a * (a > 0.75) @ w["W_dec"] + w["b_dec"]) / s
    assert not torch.allclose(sae(x), unscaled, atol=0.1)
    assert not torch.allclose(sae(x), jumped(x, w, torch.tensor(0.75)), atol=0.1)
    assert "0.75 in raw units" in notes(sae)["threshold"]
    assert "scaled by" in notes(sae)["normalisation"]
    assert sae.meta["hook_name"] == "blocks.15.hook_resid_post"


@pytest.mark.parametrize("act", ["jumprelu", "topk", "relu"])
def test_llama_scope_with_decoder_norms_in_the_scores(tmp_path: Path, act: str):
    config = {"sparsity_include_decoder_norm": True, "act_fn": act, "top_k": 5}
    sae, x, w = loaded(llama(tmp_path / "a", config)), tokens(), weights()
    s, norms = math.sqrt(D_IN) / NORM, w["W_dec"].norm(dim=1)
    scores = ((s * x) @ w["W_enc"] + w["b_enc"]) * norms
    kept = {
        "jumprelu": scores * (scores > 0.75 * s),
        "topk": by_token(scores, 5),
        "relu": scores.relu(),
    }[act]
    assert torch.allclose(sae(x), (kept / norms @ w["W_dec"] + w["b_dec"]) / s, atol=1e-4)
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(N_LATENTS), atol=1e-5)
    assert "times the norm of the row" in notes(sae)["decoder norms"]


def test_llama_scope_that_takes_b_dec_off_says_so(tmp_path: Path):
    folder = llama(tmp_path / "a", {"apply_decoder_bias_to_pre_encoder": True})
    sae, x, w = loaded(folder), tokens(), weights()
    s = math.sqrt(D_IN) / NORM
    a = (s * x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    assert torch.allclose(sae(x), (a * (a > 0.75 * s) @ w["W_dec"] + w["b_dec"]) / s, atol=1e-4)


def test_llama_scope_for_r1_has_logarithms_and_scaled_thresholds(tmp_path: Path):
    w = weights()
    (tmp_path / "a").mkdir()
    hook = "blocks.15.hook_resid_post"
    tensors = {
        "encoder.weight": w["W_enc"].T,
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T,
        "decoder.bias": w["b_dec"],
        "log_jumprelu_threshold": w["threshold"].log(),
        f"dataset_average_activation_norm.{hook}": torch.tensor(NORM),
    }
    save_file(
        {k: v.contiguous() for k, v in tensors.items()}, tmp_path / "a" / "sae_weights.safetensors"
    )
    config = {"d_model": D_IN, "expansion_factor": 4, "act_fn": "jumprelu", "hook_point_in": hook}
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    sae, x, s = loaded(tmp_path / "a"), tokens(), math.sqrt(D_IN) / NORM
    assert torch.allclose(sae(x), jumped(s * x, w) / s, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"act_fn": "batchtopk"}, "convert it to jumprelu"),
        ({"use_glu_encoder": True}, "without a GLU"),
        ({"hook_point_out": "blocks.15.hook_mlp_out"}, "the two give different latents"),
        ({"norm_activation": "batch-wise"}, "depends on the token or the batch"),
        ({"dataset_average_activation_norm": None}, "gives None for it"),
        ({"dataset_average_activation_norm": {"in": 0.0}}, r"gives 0\.0 for it"),
        ({"jump_relu_threshold": None}, "has no jump_relu_threshold"),
        ({"act_fn": "topk", "top_k": "50"}, "a whole number from 1 for 'top_k'"),
    ],
)
def test_llama_scope_that_nobody_can_express_is_refused(
    tmp_path: Path, config: dict[str, Any], sentence: str
):
    with pytest.raises(FormatError, match=sentence):
        loaded(llama(tmp_path / "a", config))


def test_llama_scope_has_one_threshold_for_all_latents(tmp_path: Path):
    sae = trained("jumprelu")
    sae.threshold.fill_(0.4)
    sae.save(tmp_path / "a", format="llama_scope")
    assert torch.allclose(loaded(tmp_path / "a")(tokens()), sae(tokens()), atol=1e-5)
    sae.threshold[3] = 0.5
    with pytest.raises(FormatError, match=r"has 48, from 0\.4 to 0\.5"):
        sae.save(tmp_path / "b", format="llama_scope")
    assert not (tmp_path / "b").exists()


BY_BATCH = [
    ("batch_topk", {"k": 4}),
    ("matryoshka", {"k": 4}),
    ("standard", {}),
]
BY_TOKEN = [
    ("topk", {"k": 4}),
    ("hierarchical_topk", {"k": 4}),
    ("matryoshka", {"k": 4, "selection": "topk"}),
]
TRANSCODER = ("transcoder", {"k": 4, "selection": "batch_topk"})
SKIP = ("transcoder", {"k": 4, "selection": "batch_topk", "skip": True, "d_out": 7})
WRITTEN = [
    *[("gemma_scope", *kind) for kind in [*BY_BATCH, ("jumprelu", {}), TRANSCODER]],
    *[("gemma_scope_2", *kind) for kind in [*BY_BATCH, ("jumprelu", {}), TRANSCODER, SKIP]],
    *[("llama_scope", *kind) for kind in [*BY_BATCH, *BY_TOKEN]],
]


@pytest.mark.parametrize(("format", "kind", "fields"), WRITTEN, ids=str)
def test_what_is_written_comes_back_with_the_same_outputs(
    tmp_path: Path, format: str, kind: str, fields: dict[str, Any]
):
    sae, x = trained(kind, **fields), tokens()
    sae.save(tmp_path / "a", format=format)
    assert detect(tmp_path / "a") == format
    back = loaded(tmp_path / "a")
    assert torch.allclose(back(x), sae(x), atol=1e-4)
    assert torch.allclose(back.encode(x).dense(), sae.encode(x).dense(), atol=1e-4)
    report = json.loads((tmp_path / "a" / "conversion.json").read_text())
    assert report["proof"]["holds"]
    assert report["proof"]["n_wrong"] == 0


@pytest.mark.parametrize(
    ("format", "kind", "fields", "sentence"),
    [
        ("gemma_scope", "topk", {"k": 4}, "no selection like that of a topk"),
        ("gemma_scope", "gated", {}, "no selection like that of a gated"),
        (
            "gemma_scope",
            "transcoder",
            {"k": 4, "selection": "batch_topk", "skip": True},
            "no linear map beside the latents",
        ),
        ("gemma_scope_2", "topk", {"k": 4}, "no selection like that of a topk"),
        ("llama_scope", "gated", {}, "no selection like that of a gated"),
        ("llama_scope", "transcoder", {"k": 4}, "written down nowhere"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_a_sentence(
    tmp_path: Path, format: str, kind: str, fields: dict[str, Any], sentence: str
):
    with pytest.raises(FormatError, match=sentence):
        trained(kind, **fields).save(tmp_path / "a", format=format)
    assert list(tmp_path.iterdir()) == []


def test_batch_topk_becomes_one_threshold_for_all_latents(tmp_path: Path):
    trained("batch_topk", k=4).save(tmp_path / "a", format="gemma_scope_2")
    held = load_file(tmp_path / "a" / "params.safetensors")
    assert torch.equal(held["threshold"], torch.full((N_LATENTS,), 0.7))
    report = json.loads((tmp_path / "a" / "conversion.json").read_text())
    assert "one for all latents" in str(report["notes"])
