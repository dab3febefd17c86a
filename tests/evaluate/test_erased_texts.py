"""What is read of texts in a model: the right vectors, and at both places what an eraser did."""

import numpy as np
import pytest
import torch

from saetools.erase import apply_rows, collect_rows, erased, fit_eraser, text_means
from saetools.evaluate.erased_texts import read_erasure, text_vectors
from saetools.models.base import LanguageModel, TextEncoder

HOOK = "blocks.1.hook_resid_post"
ENDS = ["there", "again", "now", "once", "too", "here", "today"]
SEA = [f"the water was {w} and we saw a fish {p}" for w in ("good", "old", "big") for p in ENDS]
HOME = [f"the house was {w} and we saw a dog {p}" for w in ("good", "old", "big") for p in ENDS]


@pytest.mark.parametrize("tokens", ["content", "all"])
def test_vectors_are_means_at_the_hook_and_the_models_own_embedding(
    tiny_encoder: TextEncoder, tokens: str
) -> None:
    found = text_vectors(tiny_encoder, SEA + HOME, hook_name="resid_post.1", tokens=tokens)
    rows = collect_rows(tiny_encoder, forget=SEA, retain=HOME, hook_name=HOOK, tokens=tokens)
    assert set(found) == {HOOK, "embedding"}
    assert np.allclose(found[HOOK], text_means(rows).x, atol=1e-5)
    assert np.allclose(found["embedding"], tiny_encoder.embed(SEA + HOME), atol=1e-5)


def test_vectors_inside_a_block_are_the_erased_ones(tiny_encoder: TextEncoder) -> None:
    options = {"forget": SEA, "retain": HOME, "hook_name": HOOK}
    eraser = fit_eraser("leace", tiny_encoder, **options)
    rows = collect_rows(tiny_encoder, **options)
    with erased(tiny_encoder, eraser):
        found = text_vectors(tiny_encoder, SEA + HOME, hook_name=HOOK)
        embedded = tiny_encoder.embed(SEA + HOME)
    expected = torch.zeros(len(found[HOOK]), 64).index_add_(
        0, rows.place.text, apply_rows(eraser, rows)
    ) / torch.bincount(rows.place.text).unsqueeze(1)
    assert np.allclose(found[HOOK], expected, atol=1e-5)
    assert np.allclose(found["embedding"], embedded, atol=1e-5)


def test_a_language_model_is_read_at_the_hook_and_after_its_last_block(
    tiny_lm: LanguageModel,
) -> None:
    words = {"forget": SEA[::2], "retain": HOME[::2], "hook_name": HOOK}
    eraser = fit_eraser("leace", tiny_lm, level="text", **words)
    readings = read_erasure(tiny_lm, eraser, forget=SEA[1::2], retain=HOME[1::2])
    last = f"blocks.{tiny_lm.n_layers - 1}.hook_resid_post"
    assert [(r.place, r.probe) for r in readings] == [
        (HOOK, "linear"), (HOOK, "mlp"), (last, "linear"), (last, "mlp"),
    ]  # fmt: skip
    assert all(reading.before.accuracy == 1 for reading in readings)
    assert readings[0].after.accuracy < 1
