"""Activations of text encoders are those of the plain Hugging Face forward, to the last bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from saetools.errors import FormatError
from saetools.models import TextEncoder, from_hf, load_model

TEXTS = [
    "Once upon a time there was a cat who lived in a very small house near the sea",
    "hi you",
    "The end.",
]
_SIZES: dict[str, Any] = {
    "vocab_size": 607,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.2,
    "max_position_embeddings": 67,
    "pad_token_id": 2,
}
_DISTIL = {"vocab_size": 607, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48}
_T5 = {"vocab_size": 607, "d_model": 32, "num_layers": 3, "num_heads": 4, "d_kv": 8, "d_ff": 48}
_MODERN = {
    **_SIZES,
    "global_attn_every_n_layers": 2,
    "local_attention": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "cls_token_id": 0,
    "sep_token_id": 1,
}

# Class, settings, and the norm between the last block and `last_hidden_state`.
FAMILIES: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "bert": ("BertModel", _SIZES, None),
    "roberta": ("RobertaModel", _SIZES, None),
    "xlm-roberta": ("XLMRobertaModel", _SIZES, None),
    "mpnet": ("MPNetModel", _SIZES, None),
    "distilbert": ("DistilBertModel", _DISTIL, None),
    "modernbert": ("ModernBertModel", _MODERN, "final_norm"),
    "t5": ("T5EncoderModel", _T5, "encoder.final_layer_norm"),
    "clip_text_model": ("CLIPTextModel", _SIZES, "final_layer_norm"),
    "clip_text_model_projected": (
        "CLIPTextModelWithProjection",
        {**_SIZES, "projection_dim": 24},
        "text_model.final_layer_norm",
    ),
}


def build(family: str) -> transformers.PreTrainedModel:
    class_name, settings, _ = FAMILIES[family]
    cls = getattr(transformers, class_name)
    torch.manual_seed(0)
    hf: transformers.PreTrainedModel = cls(cls.config_class(**settings)).eval()
    return hf


def encoder(family: str, tiny_encoder: TextEncoder) -> TextEncoder:
    model = from_hf(build(family), tiny_encoder.tokenizer, name=family)
    assert isinstance(model, TextEncoder)
    return model


def submodule(hf: nn.Module, path: str) -> nn.Module:
    try:
        return hf.get_submodule(path)
    except AttributeError:  # one transformers release nests the text model, another does not
        return hf.get_submodule(path.split(".", 1)[1])


def assert_same_bits(model: TextEncoder, *, norm: str | None) -> None:
    """resid_post of every layer against the hidden states of the same batch under the same mask."""
    tokens = model.tokenize(TEXTS)
    assert not tokens.mask.all()
    with torch.no_grad():
        out = model.hf(
            input_ids=tokens.ids,
            attention_mask=tokens.mask.long(),
            output_hidden_states=True,
        )
    states: tuple[Tensor, ...] = out.hidden_states
    names = [f"resid_post.{layer}" for layer in range(model.n_layers)]
    got = model.activations(tokens, names)
    assert len(states) == model.n_layers + 1
    for layer, name in enumerate(names[:-1]):
        assert got[name].dtype == torch.float32
        assert torch.equal(got[name], states[layer + 1]), name
        # One hook alone ends the forward pass there, and changes nothing.
        assert torch.equal(model.activations(tokens, [name])[name], states[layer + 1])
    last = got[names[-1]]
    with torch.no_grad():
        final = last if norm is None else submodule(model.hf, norm)(last)
    assert torch.equal(final, out.last_hidden_state)
    first = model.activations(tokens, ["resid_pre.0"])["resid_pre.0"]
    assert torch.equal(first, states[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_is_the_plain_forwards(family: str, tiny_encoder: TextEncoder) -> None:
    assert_same_bits(encoder(family, tiny_encoder), norm=FAMILIES[family][2])


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_is_masked_out(family: str, tiny_encoder: TextEncoder) -> None:
    model = encoder(family, tiny_encoder)
    names = [f"resid_post.{layer}" for layer in range(model.n_layers)]
    alone, together = model.tokenize([TEXTS[1]]), model.tokenize(TEXTS)
    n = alone.ids.shape[1]
    for name in names:
        padded = model.activations(together, [name])[name][1, :n]
        assert (padded - model.activations(alone, [name])[name][0]).abs().max() < 1e-5


def test_minilm_is_the_plain_forward(minilm: TextEncoder) -> None:
    assert_same_bits(minilm, norm=None)


def sentence_folder(
    path: Path, family: str, tokenizer: Any, *, pooling: str, normalize: bool
) -> Path:
    """A folder as sentence-transformers writes it."""
    build(family).save_pretrained(path)
    tokenizer.save_pretrained(path)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    folders = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": folders[i], "type": f"sentence_transformers.models.{k}"}
        for i, k in enumerate(kinds)
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 24, "do_lower_case": False})
    )
    (path / "1_Pooling").mkdir()
    flags = {"cls": "cls_token", "mean": "mean_tokens", "eot": "lasttoken"}
    config = {f"pooling_mode_{flag}": mode == pooling for mode, flag in flags.items()}
    (path / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, **config})
    )
    return path


@pytest.mark.parametrize(
    ("family", "pooling", "normalize"),
    [
        ("mpnet", "mean", True),
        ("bert", "cls", True),
        ("roberta", "mean", False),
        ("distilbert", "eot", False),
        ("modernbert", "cls", False),
        ("t5", "mean", True),
    ],
)
def test_a_sentence_transformers_folder_is_read_as_it_says(
    family: str, pooling: str, normalize: bool, tiny_encoder: TextEncoder, tmp_path: Path
) -> None:
    folder = sentence_folder(
        tmp_path / "model",
        family,
        tiny_encoder.tokenizer,
        pooling=pooling,
        normalize=normalize,
    )
    model = load_model(folder)
    assert isinstance(model, TextEncoder)
    assert (model.pooling, model.ctx_len, model.name) == (pooling, 24, "model")
    assert_same_bits(model, norm=FAMILIES[family][2])
    tokens = model.tokenize(TEXTS)
    with torch.no_grad():
        states = model.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long()).last_hidden_state
    want = torch.stack(
        [
            {"cls": row[0], "mean": row[:n].mean(0), "eot": row[n - 1]}[pooling]
            for row, n in zip(states, tokens.mask.sum(1).tolist(), strict=True)
        ]
    )
    want = nn.functional.normalize(want, dim=-1) if normalize else want
    assert (model.embed(TEXTS) - want).abs().max() < 1e-6


def clip() -> transformers.PreTrainedModel:
    """A CLIP with its two halves."""
    text = {**_SIZES, "projection_dim": 24}
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"intermediate_size": 16, "image_size": 8, "patch_size": 4, "projection_dim": 24}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    torch.manual_seed(0)
    hf: transformers.PreTrainedModel = transformers.CLIPModel(config).eval()
    return hf


def test_a_model_of_text_and_images_is_asked_for_its_text_part(tiny_encoder: TextEncoder) -> None:
    with pytest.raises(FormatError, match=r"CLIPModel.*text_config, vision_config.*text part"):
        from_hf(clip(), tiny_encoder.tokenizer)


def test_the_text_half_of_a_saved_clip_is_taken(tiny_encoder: TextEncoder, tmp_path: Path) -> None:
    clip().save_pretrained(tmp_path)
    tiny_encoder.tokenizer.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert isinstance(model, TextEncoder)
    assert (model.pooling, model.n_layers) == ("eot", 3)
    assert_same_bits(model, norm="text_model.final_layer_norm")


def test_weights_of_other_sizes_than_the_config_says_are_refused(
    tiny_encoder: TextEncoder, tmp_path: Path
) -> None:
    tiny_encoder.hf.save_pretrained(tmp_path)
    tiny_encoder.tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))
    with pytest.raises(FormatError, match="cannot load it"):
        load_model(tmp_path)
