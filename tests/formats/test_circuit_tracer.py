"""circuit-tracer's transcoder sets, made from their specification, and ours back."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from format_weights import D_IN, draw, loaded, notes, tokens, trained, weights
from safetensors.torch import load_file, save_file
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats import detect

CONFIG = {
    "model_kind": "transcoder_set",
    "model_name": "google/gemma-2-2b",
    "scan": "gemma",
    "feature_input_hook": "hook_resid_mid",
    "feature_output_hook": "hook_mlp_out",
}


def layer(path: Path, number: int = 0, drop: str = "", **more: Tensor) -> None:
    w = weights()
    tensors = {
        "W_enc": w["W_enc"].T,
        "b_enc": w["b_enc"],
        "W_dec": w["W_dec"],
        "b_dec": w["b_dec"],
        "activation_function.threshold": w["threshold"],
    } | more
    kept = {name: t.contiguous() for name, t in tensors.items() if name != drop}
    save_file(kept, path / f"layer_{number}.safetensors")


def folder(path: Path, config: dict[str, Any] | None = None, **options: Any) -> Path:
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG | (config or {})))
    layer(path, **options)
    return path


def read(x: Tensor, kept: Tensor) -> Tensor:
    w = weights()
    return kept @ w["W_dec"] + w["b_dec"]


def pre_acts(x: Tensor) -> Tensor:
    w = weights()
    return x @ w["W_enc"] + w["b_enc"]


def test_thresholds_make_it_jumprelu(tmp_path: Path):
    sae, x = loaded(folder(tmp_path / "a", number=3)), tokens()
    a = pre_acts(x)
    assert torch.allclose(sae(x), read(x, a * (a > weights()["threshold"])), atol=1e-4)
    assert sae.meta["hook_name"] == "blocks.3.hook_resid_mid"
    assert sae.target_hook_name == "blocks.3.hook_mlp_out"
    assert sae.meta["model"] == {"name": "google/gemma-2-2b"}
    assert sae.meta["scan"] == "gemma"


def test_without_thresholds_it_is_relu(tmp_path: Path):
    sae = loaded(folder(tmp_path / "a", drop="activation_function.threshold"))
    assert torch.allclose(sae(tokens()), read(tokens(), pre_acts(tokens()).relu()), atol=1e-4)
    assert "relu is one threshold of zero" in notes(sae)["selection"]


@pytest.mark.parametrize("where", ["config", "file"])
def test_topk_is_named_in_the_config_or_beside_the_weights(tmp_path: Path, where: str):
    in_config = {"activation": "topk", "k": 5} if where == "config" else {}
    in_file = {} if where == "config" else {"k": torch.tensor(5)}
    path = folder(tmp_path / "a", in_config, drop="activation_function.threshold", **in_file)
    sae, x = loaded(path), tokens()
    values, indices = pre_acts(x).topk(5, dim=1)
    kept = torch.zeros_like(pre_acts(x)).scatter_(1, indices, values)
    assert torch.allclose(sae(x), read(x, kept), atol=1e-4)
    assert "theirs has no relu" in notes(sae)["selection"]


def test_topk_whose_latents_would_be_negative_does_not_pass_the_proof(tmp_path: Path):
    path = folder(
        tmp_path / "a",
        {"activation": "topk", "k": 40},
        drop="activation_function.threshold",
    )
    with pytest.raises(FormatError, match="do not compute the same"):
        loaded(path)


def test_skip_is_a_linear_map_beside_the_latents(tmp_path: Path):
    skip = draw(D_IN, D_IN, seed=8)
    sae, x = loaded(folder(tmp_path / "a", W_skip=skip)), tokens()
    a = pre_acts(x)
    expected = read(x, a * (a > weights()["threshold"])) + x @ skip.T
    assert torch.allclose(sae(x), expected, atol=1e-4)


def test_one_of_several_layers_is_read_by_its_file(tmp_path: Path):
    path = folder(tmp_path / "a")
    layer(path, 1, b_dec=torch.zeros(D_IN))
    assert detect(path) == "circuit_tracer"
    with pytest.raises(FormatError, match=r"2 layers \(layer_0.safetensors, layer_1.safetensors\)"):
        loaded(path)
    sae = loaded(path / "layer_1.safetensors")
    assert torch.equal(sae.b_dec, torch.zeros(D_IN))
    assert sae.meta["hook_name"] == "blocks.1.hook_resid_mid"


def test_cross_layer_transcoder_is_refused_with_a_sentence(tmp_path: Path):
    path = folder(tmp_path / "a", {"model_kind": "cross_layer_transcoder"})
    with pytest.raises(FormatError, match="writes to all later layers"):
        loaded(path)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"activation": "gelu"}, "says activation 'gelu'"),
        ({"activation": "topk"}, "a whole number from 1 for 'k'"),
        ({"activation": "topk", "k": -1}, "a whole number from 1 for 'k'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    tmp_path: Path, config: dict[str, Any], sentence: str
):
    with pytest.raises(FormatError, match=sentence):
        loaded(folder(tmp_path / "a", config))


@pytest.mark.parametrize(
    "fields",
    [
        {"selection": "batch_topk"},
        {"selection": "topk"},
        {"selection": "batch_topk", "skip": True},
        {"selection": "topk", "skip": True},
    ],
    ids=str,
)
def test_what_is_written_comes_back_with_the_same_outputs(tmp_path: Path, fields: dict[str, Any]):
    sae = trained("transcoder", k=4, target_hook_name="blocks.3.hook_mlp_out", **fields)
    sae.meta["hook_name"] = "blocks.3.ln2.hook_normalized"
    x = tokens()
    sae.save(tmp_path / "a", format="circuit_tracer")
    assert detect(tmp_path / "a") == "circuit_tracer"
    back = loaded(tmp_path / "a")
    assert torch.allclose(back(x), sae(x), atol=1e-4)
    assert torch.allclose(back.encode(x).dense(), sae.encode(x).dense(), atol=1e-4)
    assert back.meta["hook_name"] == "blocks.3.ln2.hook_normalized"
    assert back.target_hook_name == "blocks.3.hook_mlp_out"
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert config["feature_input_hook"] == "ln2.hook_normalized"
    # Their loader takes no other tensor than these: a k beside the weights would stop it.
    assert set(load_file(tmp_path / "a" / "layer_3.safetensors")) <= {
        "W_enc", "b_enc", "W_dec", "b_dec", "activation_function.threshold", "W_skip",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "fields"), [("topk", {"k": 4}), ("transcoder", {"k": 4, "d_out": 7})]
)
def test_what_is_no_mlp_is_not_written(tmp_path: Path, kind: str, fields: dict[str, Any]):
    with pytest.raises(FormatError, match="in the place of MLPs"):
        trained(kind, **fields).save(tmp_path / "a", format="circuit_tracer")
