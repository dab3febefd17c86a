"""sparsify: round trips, hookpoints, transcoders and skip connections, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from saetools.errors import FormatError
from saetools.formats import detect
from saetools.formats.hooks import from_module_path, to_module_path
from saetools.sae import INPUT_NORMS, SAE

Trained = Callable[..., SAE]

WRITTEN = [
    ("topk", {"k": 4, "multi": True}),
    ("hierarchical_topk", {"k": 4}),
    ("matryoshka", {"k": 4, "selection": "topk"}),
    ("transcoder", {"k": 4, "target_hook_name": "blocks.3.hook_mlp_out"}),
    ("transcoder", {"k": 4, "target_hook_name": "blocks.3.hook_mlp_out", "skip": True}),
]


@pytest.mark.parametrize(("kind", "fields"), WRITTEN, ids=lambda value: str(value))
def test_what_is_written_comes_back_with_the_same_outputs(
    kind: str, fields: dict[str, Any], tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    sae = trained(kind, **fields)
    sae.save(tmp_path / "sae", format="sparsify")
    assert detect(tmp_path / "sae") == "sparsify"
    back = SAE.load(tmp_path / "sae")
    assert torch.allclose(back(tokens), sae(tokens), atol=1e-6)
    assert torch.allclose(back.encode(tokens).dense(), sae.encode(tokens).dense(), atol=1e-6)
    if kind == "transcoder":
        assert back.target_hook_name == "blocks.3.hook_mlp_out"
    else:
        assert back.meta["hook_name"] == "blocks.3.hook_resid_post"


def test_a_default_sae_has_num_latents_0_and_is_read_by_its_tensors(
    tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    # SAELens takes num_latents for the size and transposes W_dec; a default SAE fails there.
    sae = trained("topk", k=4)
    sae.save(tmp_path / "layers.3", format="sparsify")
    _change(tmp_path / "layers.3", num_latents=0, hookpoint=None)
    back = SAE.load(tmp_path / "layers.3")
    assert back.config.n_latents == 64
    assert torch.allclose(back(tokens), sae(tokens), atol=1e-6)
    assert back.meta["hook_name"] == "blocks.3.hook_resid_post", "by the folder's name"


def test_an_sae_with_a_skip_connection_is_read_as_a_transcoder_to_its_own_input(
    tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    sae = trained("topk", k=4)
    sae.save(tmp_path / "sae", format="sparsify")
    path = tmp_path / "sae" / "sae.safetensors"
    W_skip = torch.randn(16, 16, generator=torch.Generator().manual_seed(3))
    save_file(load_file(path) | {"W_skip": W_skip}, path)
    _change(tmp_path / "sae", skip_connection=True)
    back = SAE.load(tmp_path / "sae")
    assert torch.allclose(back(tokens), sae(tokens) + tokens @ W_skip.T, atol=1e-5)


def test_what_it_cannot_express_is_refused_with_a_sentence(
    tmp_path: Path, trained: Trained
) -> None:
    cases = [
        (trained("standard"), "takes the k largest"),
        (trained("batch_topk", k=4), "has no thresholds"),
        (trained("transcoder", k=4, d_out=12), "reads 16 and writes 12"),
        (INPUT_NORMS.get("layer_norm")()(trained("topk", k=4)), "no normalised inputs"),
    ]
    for sae, sentence in cases:
        with pytest.raises(FormatError, match=sentence):
            sae.save(tmp_path / "sae", format="sparsify")
    assert list(tmp_path.iterdir()) == []


def test_groupmax_is_refused(tmp_path: Path, trained: Trained) -> None:
    trained("topk", k=4).save(tmp_path / "sae", format="sparsify")
    _change(tmp_path / "sae", activation="groupmax")
    with pytest.raises(FormatError, match="ours cannot express"):
        SAE.load(tmp_path / "sae")


@pytest.mark.parametrize(
    ("path", "hook_name"),
    [
        ("layers.10", "blocks.10.hook_resid_post"),
        ("h.5", "blocks.5.hook_resid_post"),
        ("transformer.h.5", "blocks.5.hook_resid_post"),
        ("model.layers.3", "blocks.3.hook_resid_post"),
        ("h.5.mlp", "blocks.5.hook_mlp_out"),
        ("layers.7.self_attn", "blocks.7.hook_attn_out"),
        ("layers.7.attention", "blocks.7.hook_attn_out"),
        ("resid_pre.2", "blocks.2.hook_resid_pre"),
        ("layers.7.mlp.gate_proj", None),
        ("embed_tokens", None),
    ],
)
def test_module_paths_are_hooks_of_ours(path: str, hook_name: str | None) -> None:
    assert from_module_path(path) == hook_name


@pytest.mark.parametrize(
    ("hook_name", "path", "model"),
    [
        ("blocks.3.hook_resid_post", "layers.3", "llama"),
        ("blocks.3.hook_resid_pre", "layers.2", "llama"),
        ("blocks.0.hook_resid_pre", None, "llama"),
        ("blocks.3.hook_mlp_out", "layers.3.mlp", "llama"),
        ("attn_out.3", "layers.3.self_attn", "llama"),
        ("blocks.3.attn.hook_z", None, "llama"),
        ("attn_out.3", "h.3.attn", "gpt2"),
        ("attn_out.3", "layers.3.attention", "EleutherAI/pythia-70m"),
    ],
)
def test_hooks_of_ours_are_module_paths_where_a_module_has_that_output(
    hook_name: str, path: str | None, model: str
) -> None:
    assert to_module_path(hook_name, model=model) == path


def _change(folder: Path, **fields: Any) -> None:
    path = folder / "cfg.json"
    kept = {k: v for k, v in (json.loads(path.read_text()) | fields).items() if v is not None}
    path.write_text(json.dumps(kept))
