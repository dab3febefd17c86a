"""Vectors of documents are the means that reading by hand gives, under edits too."""

import pytest
import torch

from saetools import progress
from saetools.evaluate.ablation.collect import Representation, represent
from saetools.evaluate.documents import document_batches
from saetools.intervene import ablate
from saetools.models.base import LanguageModel, SubjectModel, TextEncoder
from saetools.sae import SAE, build_sae

TEXTS = ["the dog ran", "a girl saw the sun over the water", "no", "the old man went home"]


def collect(model: SubjectModel, hook_name: str) -> Representation:
    batches = document_batches(model, TEXTS, ctx_len=None, batch_tokens=30)
    assert len(batches) > 1
    with progress.task("test") as task:
        return represent(model, batches, hook_name=hook_name, task=task)


def mean_at(model: SubjectModel, hook_name: str) -> torch.Tensor:
    rows = []
    for text in TEXTS:
        tokens = model.tokenize([text])
        rows.append(model.activations(tokens, [hook_name])[hook_name][tokens.content].mean(0))
    return torch.stack(rows)


@pytest.mark.parametrize("layer", [1, 3])
def test_language_model_vectors_with_and_without_ablation(
    tiny_lm: LanguageModel, layer: int
) -> None:
    hook, last = f"blocks.{layer}.hook_resid_post", "blocks.3.hook_resid_post"
    sae: SAE = build_sae("topk", d_in=64, n_latents=128, k=8, meta={"hook_name": hook})
    clean = collect(tiny_lm, hook)
    assert torch.allclose(torch.tensor(clean.hook), mean_at(tiny_lm, hook), atol=1e-4)
    assert torch.allclose(torch.tensor(clean.final), mean_at(tiny_lm, last), atol=1e-4)
    with ablate(tiny_lm, sae, range(64)):
        found = collect(tiny_lm, hook)
        expected_hook, expected_final = mean_at(tiny_lm, hook), mean_at(tiny_lm, last)
    assert torch.allclose(torch.tensor(found.hook), expected_hook, atol=1e-4)
    assert torch.allclose(torch.tensor(found.final), expected_final, atol=1e-4)
    assert abs(found.hook - clean.hook).max() > 0.05
    assert abs(found.final - clean.final).max() > 0.05


def test_text_encoder_vectors_end_in_the_embedding(tiny_encoder: TextEncoder) -> None:
    hook = "blocks.1.hook_resid_post"
    found = collect(tiny_encoder, hook)
    assert torch.allclose(torch.tensor(found.hook), mean_at(tiny_encoder, hook), atol=1e-4)
    assert torch.allclose(torch.tensor(found.final), tiny_encoder.embed(TEXTS), atol=1e-4)
