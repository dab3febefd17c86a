"""SAELens' own loaders of Gemma Scope and Llama Scope give our outputs from files that ours wrote.

They run in an environment of their own (see `run_libraries`); these tests skip without one.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from format_weights import tokens, trained

from saetools.sae import SAE

TRANSCODER = {"k": 4, "selection": "batch_topk", "target_hook_name": "blocks.3.hook_mlp_out"}
WRITTEN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "layer_3_gemma_scope": ("gemma_scope", "jumprelu", {}),
    "layer_3_resid_post": ("gemma_scope_2", "batch_topk", {"k": 4}),
    "layer_3_transcoder": ("gemma_scope_2", "transcoder", TRANSCODER),
    "layer_3_transcoder_affine": ("gemma_scope_2", "transcoder", TRANSCODER | {"skip": True}),
    "llama_scope": ("llama_scope", "matryoshka", {"k": 4}),
}


@pytest.fixture(scope="module")
def outputs(
    tmp_path_factory: pytest.TempPathFactory, run_libraries: Callable[..., None]
) -> dict[str, tuple[SAE, dict[str, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("scopes")
    torch.save(tokens(), folder / "x.pt")
    saes = {name: trained(kind, **fields) for name, (_, kind, fields) in WRITTEN.items()}
    for name, (format, _, _) in WRITTEN.items():
        saes[name].save(folder / name, format=format)
    run_libraries("read", folder, script="scopes_in_saelens.py")
    return {
        name: (sae, torch.load(folder / f"{name}.out.pt", weights_only=True))
        for name, sae in saes.items()
    }


@pytest.mark.parametrize("name", [name for name in WRITTEN if not name.endswith("affine")])
def test_their_loader_gives_our_outputs(
    outputs: dict[str, tuple[SAE, dict[str, torch.Tensor]]], name: str
):
    sae, found = outputs[name]
    assert torch.allclose(found["x_hat"], sae(tokens()), atol=1e-4)
    assert torch.allclose(found["latents"], sae.encode(tokens()).dense(), atol=1e-4)


def test_their_loader_does_not_transpose_the_skip_connection(
    outputs: dict[str, tuple[SAE, dict[str, torch.Tensor]]],
):
    # Should this fail, SAELens was mended: the transcoder belongs with the others above.
    sae, found = outputs["layer_3_transcoder_affine"]
    W_skip = sae.get_parameter("W_skip")
    theirs = sae(tokens()) - tokens() @ W_skip.T + tokens() @ W_skip
    assert torch.allclose(found["x_hat"], theirs, atol=1e-4)
    assert torch.allclose(found["latents"], sae.encode(tokens()).dense(), atol=1e-4)
