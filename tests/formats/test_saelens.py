"""SAELens folders: what we write and read, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from saetools.errors import FormatError
from saetools.formats import FORMATS, detect, read
from saetools.sae import INPUT_NORMS, SAE, Affine

Trained = Callable[..., SAE]

WRITTEN = [
    ("topk", {"k": 4}, "topk"),
    ("hierarchical_topk", {"k": 4}, "topk"),
    ("batch_topk", {"k": 4}, "jumprelu"),
    ("matryoshka", {"k": 4}, "jumprelu"),
    ("matryoshka", {"k": 4, "selection": "topk"}, "topk"),
    ("standard", {}, "standard"),
    ("gated", {}, "gated"),
    ("jumprelu", {"target_l0": 4.0}, "jumprelu"),
    ("transcoder", {"k": 4, "selection": "batch_topk", "d_out": 12}, "jumprelu_transcoder"),
    (
        "transcoder",
        {"k": 4, "selection": "batch_topk", "d_out": 12, "skip": True},
        "jumprelu_skip_transcoder",
    ),
]


@pytest.mark.parametrize(("kind", "fields", "theirs"), WRITTEN, ids=lambda value: str(value))
def test_what_is_written_comes_back_with_the_same_outputs(
    kind: str,
    fields: dict[str, Any],
    theirs: str,
    tmp_path: Path,
    trained: Trained,
    tokens: torch.Tensor,
) -> None:
    sae, x = trained(kind, **fields), tokens
    sae.save(tmp_path / "sae", format="saelens")
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert config["architecture"] == theirs
    assert config["metadata"]["hook_name"] == "blocks.3.hook_resid_post"
    assert config["metadata"]["sae_lens_version"].startswith("6.")
    back = SAE.load(tmp_path / "sae")
    assert torch.allclose(back(x), sae(x), atol=1e-6)
    assert torch.allclose(back.encode(x).dense(), sae.encode(x).dense(), atol=1e-6)
    assert back.meta["hook_name"] == "blocks.3.hook_resid_post"
    assert back.meta["model"] == {"name": "gpt2"}


def test_the_report_lies_beside_the_weights_and_has_the_figures(
    tmp_path: Path, trained: Trained
) -> None:
    trained("batch_topk", k=4).save(tmp_path / "sae", format="saelens")
    report = json.loads((tmp_path / "sae" / "conversion.json").read_text())
    assert report["proof"]["holds"] is True
    assert report["proof"]["l0"] > 0
    assert report["proof"]["n_wrong"] == 0
    assert {"cfg.json", "sae_weights.safetensors"} == set(report["checksums"])
    assert any(note["what"] == "threshold" for note in report["notes"])


@pytest.mark.parametrize("kind", ["standard", "topk", "gated", "jumprelu"])
def test_an_sae_that_takes_no_b_dec_off_its_input_is_folded(
    kind: str, tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    sae, x = trained(kind), tokens
    sae.save(tmp_path / "sae", format="saelens")
    _change(tmp_path / "sae", apply_b_dec_to_input=False)
    back = SAE.load(tmp_path / "sae")
    assert not torch.allclose(back(x), sae(x), atol=1e-2), "the setting matters"
    # By hand: the same SAE on x + b_dec reads what this one reads on x.
    assert torch.allclose(back.encode(x).dense(), sae.encode(x + sae.b_dec).dense(), atol=1e-5)
    assert any(note["what"] == "b_dec" for note in back.meta["converted"]["notes"])


def test_rescaling_by_decoder_norms_is_folded(
    tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    sae, x = trained("topk", k=4), tokens
    sae.save(tmp_path / "sae", format="saelens")
    held = load_file(tmp_path / "sae" / "sae_weights.safetensors")
    held["W_dec"] = held["W_dec"] * torch.linspace(0.5, 2, 64).unsqueeze(1)
    save_file(held, tmp_path / "sae" / "sae_weights.safetensors")
    _change(tmp_path / "sae", rescale_acts_by_decoder_norm=True)
    norms = held["W_dec"].norm(dim=1)
    pre_acts = ((x - held["b_dec"]) @ held["W_enc"] + held["b_enc"]) * norms
    values, indices = pre_acts.topk(4, dim=1)
    latents = torch.zeros_like(pre_acts).scatter_(1, indices, values.relu())
    expected = latents / norms @ held["W_dec"] + held["b_dec"]
    back = SAE.load(tmp_path / "sae")
    assert torch.allclose(back(x), expected, atol=1e-5)
    assert torch.allclose(back.W_dec.norm(dim=1), torch.ones(64), atol=1e-5)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("layer_norm", "layer_norm"), ("constant_norm_rescale", "unit_norm")]
)
def test_normalised_inputs_stay_normalised(
    theirs: str, ours: str, tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    sae, x = trained("topk", k=4), 5 * tokens + 2
    sae.save(tmp_path / "sae", format="saelens")
    _change(tmp_path / "sae", normalize_activations=theirs)
    back = SAE.load(tmp_path / "sae")
    assert torch.allclose(back(x), INPUT_NORMS.get(ours)()(sae)(x), atol=1e-5)
    if theirs == "layer_norm":
        mean, spread = x.mean(1, keepdim=True), x.std(1, keepdim=True)
        assert torch.allclose(back(x), sae((x - mean) / (spread + 1e-5)) * spread + mean, atol=1e-4)
    # It survives a round trip through our own folder and through theirs.
    back.save(tmp_path / "own")
    assert torch.equal(SAE.load(tmp_path / "own")(x), back(x))
    back.save(tmp_path / "again", format="saelens")
    config = json.loads((tmp_path / "again" / "cfg.json").read_text())
    assert config["normalize_activations"] == theirs
    assert torch.allclose(SAE.load(tmp_path / "again")(x), back(x), atol=1e-6)


def test_ablating_a_latent_of_a_normalised_sae_takes_its_row_off_x(
    tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    norm = INPUT_NORMS.get("layer_norm")()
    sae, x = norm(trained("topk", k=4)), 5 * tokens + 2
    latents = sae.encode(x)
    without = sae.decode(latents.top(3)) - sae.decode(latents)
    # What is missing is one latent's part of x_hat in the units of x, the mean untouched.
    inner, (mean, spread, divisor) = sae.inner, norm.measure(x)
    chosen = inner.encode((x - mean) / divisor)
    expected = spread * (inner.decode(chosen.top(3)) - inner.decode(chosen))
    assert torch.allclose(without, expected, atol=1e-5)
    doubled = sae.folded(Affine(2.0))
    assert torch.allclose(doubled(x / 2), sae(x) / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"architecture": "abstopk"}, "can be negative"),
        ({"architecture": "temporal"}, "tokens before it"),
        ({"architecture": "matching_pursuit"}, "no encoder"),
        ({"architecture": "gated"}, "b_gate, b_mag, r_mag missing"),
        ({"normalize_activations": "covariance_whitening"}, "ours cannot express"),
    ],
)
def test_what_ours_cannot_express_is_refused_with_a_sentence(
    change: dict[str, Any], sentence: str, tmp_path: Path, trained: Trained
) -> None:
    trained("topk", k=4).save(tmp_path / "sae", format="saelens")
    _change(tmp_path / "sae", **change)
    with pytest.raises(FormatError, match=sentence):
        SAE.load(tmp_path / "sae")


def test_a_transcoder_that_selects_by_token_is_not_written(
    tmp_path: Path, trained: Trained
) -> None:
    with pytest.raises(FormatError, match="write it as sparsify"):
        trained("transcoder", k=4).save(tmp_path / "sae", format="saelens")
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_config_of_before_version_6_is_understood(
    tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    sae, x = trained("topk", k=4), tokens
    sae.save(tmp_path / "sae", format="saelens")
    old = {
        "hook_point": "blocks.3.hook_resid_post",
        "model_name": "gpt2",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 4},
        "normalize_activations": False,
        "apply_b_dec_to_input": True,
    }
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(old))
    back = SAE.load(tmp_path / "sae")
    assert back.config.type == "topk"
    assert back.meta["hook_name"] == "blocks.3.hook_resid_post"
    assert torch.allclose(back(x), sae(x), atol=1e-6)


def test_a_folder_is_recognised_by_its_files(tmp_path: Path, trained: Trained) -> None:
    trained("topk", k=4).save(tmp_path / "sae", format="saelens")
    assert detect(tmp_path / "sae") == "saelens"
    assert detect(tmp_path) is None
    assert "saelens" in FORMATS.names()
    assert read(tmp_path / "sae")[1].holds


def test_something_else_is_not_written_over(tmp_path: Path, trained: Trained) -> None:
    (tmp_path / "sae").mkdir()
    (tmp_path / "sae" / "thesis.tex").write_text("years of work")
    with pytest.raises(FormatError, match="holds something else"):
        trained("topk", k=4).save(tmp_path / "sae", format="saelens")
    assert (tmp_path / "sae" / "thesis.tex").exists()


def _change(folder: Path, **fields: Any) -> None:
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
