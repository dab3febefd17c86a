"""Embeddings are those of the published model, however texts are batched."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from saetools.errors import FormatError
from saetools.models import TextEncoder, from_hf, load_model
from saetools.models.pooling import Pooling, pool, read_pooling

TEXTS = [
    "A man is eating food.",
    "The stock market fell sharply on Tuesday after bad news from the banks.",
    "Cats",
]


def test_minilm_embeds_as_its_folder_says(minilm: TextEncoder) -> None:
    # The computation of the model card: mean of the last state over the mask, then length 1.
    batch = minilm.tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = minilm.hf(**batch).last_hidden_state
    weights = batch["attention_mask"].unsqueeze(-1).float()
    means = (states * weights).sum(1) / weights.sum(1)
    want = means / means.norm(dim=1, keepdim=True)
    assert (minilm.embed(TEXTS) - want).abs().max() < 1e-6
    assert minilm.ctx_len == 256


def test_minilm_embeds_as_sentence_transformers_does(minilm: TextEncoder) -> None:
    library = pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
    folder = str(Path(minilm.tokenizer.name_or_path))
    theirs = library.SentenceTransformer(folder, device="cpu").encode(TEXTS)
    assert (minilm.embed(TEXTS) - torch.from_numpy(theirs)).abs().max() < 1e-6


def test_similar_texts_are_near(minilm: TextEncoder) -> None:
    a, b, c = minilm.embed(["A dog runs.", "A puppy is running.", "Taxes rose in May."])
    assert a @ b > 0.6
    assert a @ c < 0.2


def test_the_order_and_the_batches_do_not_matter(tiny_encoder: TextEncoder) -> None:
    texts = ["a", "the big dog and the little cat", "once upon a time", "", "tree"]
    whole = tiny_encoder.embed(texts)
    assert whole.shape == (5, 64)
    assert torch.allclose(tiny_encoder.embed(texts, batch_size=2), whole, atol=1e-5)
    assert torch.allclose(tiny_encoder.embed(texts[::-1]), whole.flip(0), atol=1e-5)
    assert torch.allclose(tiny_encoder.embed(tiny_encoder.tokenize(texts)), whole, atol=1e-5)
    assert tiny_encoder.embed([]).shape == (0, 64)


def test_clip_embeds_with_its_own_pooling_and_projection() -> None:
    model = _clip()
    assert model.pooling == "eot"
    tokens = model.tokenize(TEXTS)
    with torch.no_grad():
        out = model.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long())
    got = model.embed(TEXTS)
    assert got.shape == (3, 24)
    assert (got - out.text_embeds).abs().max() < 1e-5


def _clip() -> TextEncoder:
    tokenizer = load_model("tiny-encoder").tokenizer
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        projection_dim=24,
        eos_token_id=tokenizer.sep_token_id,
    )
    model = from_hf(transformers.CLIPTextModelWithProjection(config), tokenizer, name="clip")
    assert isinstance(model, TextEncoder)
    return model


def test_the_encoder_of_an_encoder_decoder_is_taken(tiny_encoder: TextEncoder) -> None:
    config = transformers.T5Config(
        vocab_size=700, d_model=32, num_layers=2, num_heads=4, d_kv=8, decoder_start_token_id=0
    )
    t5 = transformers.T5ForConditionalGeneration(config).eval()
    model = from_hf(t5, tiny_encoder.tokenizer, kind="text_encoder", name="t5")
    assert isinstance(model, TextEncoder)
    assert model.pooling == "mean"
    assert model.embed(TEXTS).shape == (3, 32)


@pytest.mark.parametrize(("mode", "want"), [("mean", 1.5), ("cls", 1.0), ("eot", 2.0)])
def test_pooling_of_a_known_row(mode: Any, want: float) -> None:
    states = torch.tensor([[[1.0], [2.0], [9.0]]])
    mask = torch.tensor([[True, True, False]])
    assert pool(states, mask, mode).item() == want


def _folder(path: Path, *, modules: list[str], pooling: dict[str, Any]) -> Path:
    rows = [
        {"idx": i, "path": "1_Pooling" if kind == "Pooling" else "", "type": f"x.models.{kind}"}
        for i, kind in enumerate(modules)
    ]
    (path / "1_Pooling").mkdir()
    (path / "modules.json").write_text(json.dumps(rows))
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return path


@pytest.mark.parametrize(
    ("pooling", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "eot"),
        ({"pooling_mode": "mean"}, "mean"),
    ],
)
def test_old_and_new_folders_are_read(tmp_path: Path, pooling: dict[str, Any], mode: Any) -> None:
    folder = _folder(tmp_path, modules=["Transformer", "Pooling"], pooling=pooling)
    assert read_pooling(folder) == Pooling(mode, normalize=False, ctx_len=None)


def test_layers_that_would_not_be_followed_are_refused(tmp_path: Path) -> None:
    modules = ["Transformer", "Pooling", "Dense"]
    folder = _folder(tmp_path, modules=modules, pooling={"pooling_mode": "mean"})
    with pytest.raises(FormatError, match="type Dense"):
        read_pooling(folder)


def test_a_pooling_that_is_not_known_is_refused(tmp_path: Path) -> None:
    pooling = {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}
    folder = _folder(tmp_path, modules=["Transformer", "Pooling"], pooling=pooling)
    with pytest.raises(FormatError, match=r"max \+ mean"):
        read_pooling(folder)
