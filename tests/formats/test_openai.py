"""OpenAI's files and the steerers' variant, made from their specification, and ours back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from format_weights import D_IN, N_LATENTS, by_token, loaded, notes, tokens, trained, weights
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats import detect
from saetools.sae import INPUT_NORMS, SAE

K = 5


def state() -> dict[str, Any]:
    w = weights()
    return {
        "pre_bias": w["b_dec"],
        "latent_bias": w["b_enc"],
        "stats_last_nonzero": torch.zeros(N_LATENTS, dtype=torch.long),
        "encoder.weight": w["W_enc"].T.contiguous(),
        "decoder.weight": w["W_dec"].T.contiguous(),
    }


def openai(path: Path, activation: str, inner: dict[str, Any] | None = None, **more: Any) -> Path:
    content = state() | {"activation": activation, "activation_state_dict": inner or {}} | more
    torch.save(content, path)
    return path


def encoded(x: Tensor) -> Tensor:
    w = weights()
    return (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]


def decoded(latents: Tensor) -> Tensor:
    w = weights()
    return latents @ w["W_dec"] + w["b_dec"]


def test_topk_normalises_each_token_and_gives_it_back(tmp_path: Path):
    path = openai(tmp_path / "a.pt", "TopK", {"k": K, "postact_fn": "ReLU"})
    sae, x = loaded(path), tokens()
    mean, std = x.mean(1, keepdim=True), x.std(1, keepdim=True)
    expected = decoded(by_token(encoded((x - mean) / (std + 1e-5)), K)) * std + mean
    assert torch.allclose(sae(x), expected, atol=1e-4)
    # The common mistake: reading raw activations.
    assert not torch.allclose(sae(x), decoded(by_token(encoded(x), K)), atol=0.1)
    assert "kept" in notes(sae)["layer_norm"]


def test_relu_reads_raw_activations(tmp_path: Path):
    sae, x = loaded(openai(tmp_path / "a.pt", "ReLU")), tokens()
    assert torch.allclose(sae(x), decoded(encoded(x).relu()), atol=1e-4)


def test_statistics_of_training_do_not_matter(tmp_path: Path):
    more = {
        "latents_activation_frequency": torch.rand(N_LATENTS),
        "latents_mean_square": torch.rand(N_LATENTS),
    }
    sae = loaded(openai(tmp_path / "a.pt", "ReLU", **more))
    assert torch.allclose(sae(tokens()), decoded(encoded(tokens()).relu()), atol=1e-4)


def test_tied_decoder_is_the_encoder_turned(tmp_path: Path):
    content = state() | {"activation": "ReLU"}
    del content["decoder.weight"]
    torch.save(content, tmp_path / "a.pt")
    sae, w = loaded(tmp_path / "a.pt"), weights()
    assert torch.equal(sae.W_dec, w["W_enc"].T)


@pytest.mark.parametrize(
    ("activation", "inner", "sentence"),
    [
        ("Identity", {}, "latents can be negative"),
        ("TopK", {"k": K, "postact_fn": "Identity"}, "latents can be negative"),
        ("TopK", {"k": 0, "postact_fn": "ReLU"}, "a whole number from 1 for 'k'"),
        ("TopK", {"postact_fn": "ReLU"}, "a whole number from 1 for 'k'"),
    ],
)
def test_activations_that_ours_cannot_express_are_refused(
    tmp_path: Path, activation: str, inner: dict[str, Any], sentence: str
):
    with pytest.raises(FormatError, match=sentence):
        loaded(openai(tmp_path / "a.pt", activation, inner))


def test_topk_over_normalised_tokens_is_written(tmp_path: Path):
    sae, x = INPUT_NORMS.get("layer_norm")()(trained("topk", k=4)), tokens()
    sae.save(tmp_path / "a.pt", format="openai")
    assert detect(tmp_path / "a.pt") == "openai"
    assert torch.allclose(loaded(tmp_path / "a.pt")(x), sae(x), atol=1e-5)
    held = torch.load(tmp_path / "a.pt", weights_only=True)
    assert held["activation_state_dict"] == {"k": 4, "postact_fn": "ReLU"}
    assert held["encoder.weight"].shape == (N_LATENTS, D_IN)
    report = json.loads((tmp_path / "a.pt.conversion.json").read_text())
    assert report["proof"]["holds"]
    assert set(report["checksums"]) == {"a.pt"}


def test_standard_is_written_as_relu(tmp_path: Path):
    sae, x = trained("standard"), tokens()
    sae.save(tmp_path / "a.pt", format="openai")
    assert torch.allclose(loaded(tmp_path / "a.pt")(x), sae(x), atol=1e-5)


@pytest.mark.parametrize(
    ("sae", "sentence"),
    [
        (trained("topk", k=4), "layer-normalises the input of every TopK SAE"),
        (trained("gated"), "this is a gated SAE"),
        (trained("batch_topk", k=4), "this is a batch_topk SAE"),
        (INPUT_NORMS.get("layer_norm")()(trained("standard")), "this is a standard SAE"),
        (INPUT_NORMS.get("layer_norm")(eps=1e-2)(trained("topk", k=4)), "this is a topk SAE"),
    ],
)
def test_what_their_loader_would_misread_is_not_written(tmp_path: Path, sae: SAE, sentence: str):
    with pytest.raises(FormatError, match=sentence):
        sae.save(tmp_path / "a.pt", format="openai")
    assert list(tmp_path.iterdir()) == []


def test_files_with_objects_are_not_taken_for_theirs(tmp_path: Path):
    torch.save({"pre_bias": torch.zeros(2), "model": torch.nn.Linear(2, 2)}, tmp_path / "a.pt")
    assert detect(tmp_path / "a.pt") is None


SETTINGS = {
    "n_dirs_local": N_LATENTS,
    "d_model": D_IN,
    "k": K,
    "auxk": 32,
    "dead_steps_threshold": 100,
}


def steerers(path: Path, config: dict[str, Any] | None = None, content: Any = None) -> Path:
    path.mkdir()
    torch.save({"state_dict": state()} if content is None else content, path / "state_dict.pth")
    (path / "config.json").write_text(json.dumps(SETTINGS | (config or {})))
    return path


def test_steerers_normalise_nothing(tmp_path: Path):
    sae, x = loaded(steerers(tmp_path / "a")), tokens()
    assert detect(tmp_path / "a") == "steerers"
    assert torch.allclose(sae(x), decoded(by_token(encoded(x), K)), atol=1e-4)
    assert sae.config.k == K
    assert sae.meta["auxk"] == 32


@pytest.mark.parametrize(
    ("config", "content", "sentence"),
    [
        ({"n_dirs_local": 7}, None, "do not belong together"),
        ({"k": "5"}, None, "a whole number from 1 for 'k'"),
        ({}, {"model": {}}, "no state dict under 'state_dict'"),
        ({}, {"state_dict": {"pre_bias": torch.zeros(2)}}, "missing"),
    ],
)
def test_steerers_that_do_not_fit_are_refused(
    tmp_path: Path, config: dict[str, Any], content: Any, sentence: str
):
    with pytest.raises(FormatError, match=sentence):
        loaded(steerers(tmp_path / "a", config, content))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("topk", {}), ("hierarchical_topk", {}), ("matryoshka", {"selection": "topk"})],
)
def test_what_selects_by_token_is_written_for_steerers(
    tmp_path: Path, kind: str, fields: dict[str, Any]
):
    sae, x = trained(kind, k=4, **fields), tokens()
    sae.save(tmp_path / "a", format="steerers")
    assert torch.allclose(loaded(tmp_path / "a")(x), sae(x), atol=1e-5)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["k"] == 4


@pytest.mark.parametrize(
    "sae",
    [
        trained("standard"),
        trained("batch_topk", k=4),
        trained("transcoder", k=4),
        INPUT_NORMS.get("layer_norm")()(trained("topk", k=4)),
    ],
)
def test_what_steerers_do_otherwise_is_not_written(tmp_path: Path, sae: SAE):
    with pytest.raises(FormatError, match="SAE of another kind"):
        sae.save(tmp_path / "a", format="steerers")
