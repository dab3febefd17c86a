"""Sublayer outputs mean the same in every family: what is added to the residual stream."""

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from saetools.errors import FormatError
from saetools.models import LanguageModel, TextEncoder, from_hf
from saetools.models.hf_subject import HFSubject
from saetools.models.sites import blocks_of, bridge_name

TEXTS = ["Once upon a time there was a cat", "hi you"]
N_WORDS = 607

_SIZES: dict[str, Any] = {
    "vocab_size": N_WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.2,
    "max_position_embeddings": 67,
    "pad_token_id": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_ROPE = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
_GPT2 = {"vocab_size": N_WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
_GPT_NEO = {
    **{k: v for k, v in _SIZES.items() if not k.startswith("num_")},
    "num_layers": 2,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
}

CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _ROPE),
    "mistral": ("Mistral", _ROPE),
    "qwen2": ("Qwen2", _ROPE),
    "qwen3": ("Qwen3", _ROPE),
    "gemma": ("Gemma", _ROPE),
    "gemma2": ("Gemma2", _ROPE),
    "gemma3_text": ("Gemma3Text", _ROPE),
    "olmo2": ("Olmo2", _ROPE),
    "phi3": ("Phi3", _ROPE),
    "gpt2": ("GPT2", {**_GPT2, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 1}),
    "gpt_neo": ("GPTNeo", _GPT_NEO),
    "gpt_neox": ("GPTNeoX", _SIZES),
    "gpt_neox_sequential": ("GPTNeoX", {**_SIZES, "use_parallel_residual": False}),
}
PRE_NORM_ENCODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "clip": ("CLIPTextConfig", "CLIPTextModel", _SIZES),
    "modernbert": ("ModernBertConfig", "ModernBertModel", _SIZES),
    "t5": (
        "T5Config",
        "T5EncoderModel",
        {"vocab_size": N_WORDS, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8},
    ),
}
_DISTIL = {"vocab_size": N_WORDS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
POST_NORM_ENCODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertModel", _SIZES),
    "roberta": ("RobertaConfig", "RobertaModel", _SIZES),
    "xlm-roberta": ("XLMRobertaConfig", "XLMRobertaModel", _SIZES),
    "mpnet": ("MPNetConfig", "MPNetModel", _SIZES),
    "distilbert": ("DistilBertConfig", "DistilBertModel", _DISTIL),
}


def causal(family: str, tokenizer: Any) -> HFSubject:
    prefix, settings = CAUSAL[family]
    config = getattr(transformers, f"{prefix}Config")(**settings)
    torch.manual_seed(0)
    hf = transformers.AutoModelForCausalLM.from_config(config).eval()
    model = from_hf(hf, tokenizer, name=family)
    assert isinstance(model, HFSubject)
    assert isinstance(model, LanguageModel)
    return model


def encoder(family: str, tokenizer: Any) -> TextEncoder:
    config_name, class_name, settings = {**PRE_NORM_ENCODERS, **POST_NORM_ENCODERS}[family]
    torch.manual_seed(0)
    hf = getattr(transformers, class_name)(getattr(transformers, config_name)(**settings)).eval()
    model = from_hf(hf, tokenizer, name=family)
    assert isinstance(model, TextEncoder)
    return model


def assert_outputs_sum_up(model: Any) -> None:
    """resid_post = resid_pre + attn_out + mlp_out."""
    tokens = model.tokenize(TEXTS)
    got = model.activations(tokens, model.hook_names())
    assert len(got) == 4 * model.n_layers
    for layer in range(model.n_layers):
        parts = [got[f"blocks.{layer}.hook_{k}"] for k in ("resid_pre", "attn_out", "mlp_out")]
        gap = sum(parts) - got[f"blocks.{layer}.hook_resid_post"]
        assert gap[tokens.mask].abs().max() < 1e-5


@pytest.mark.parametrize("family", CAUSAL)
def test_plain_sites_equal_transformer_lens(family: str, tiny_lm: LanguageModel) -> None:
    model = causal(family, tiny_lm.tokenizer)
    assert_outputs_sum_up(model)
    tokens = model.tokenize(TEXTS)
    plain = model.activations(tokens, model.hook_names())
    # A name that only the bridge has sends the whole pass there.
    only_there = "hook_embed"
    bridged = model.activations(tokens, [*model.hook_names(), only_there])
    for name in model.hook_names():
        assert not torch.equal(plain[name], torch.zeros_like(plain[name]))
        assert (plain[name] - bridged[name])[tokens.mask].abs().max() < 1e-5


@pytest.mark.parametrize("family", PRE_NORM_ENCODERS)
def test_outputs_of_a_pre_norm_encoder_sum_up(family: str, tiny_encoder: TextEncoder) -> None:
    assert_outputs_sum_up(encoder(family, tiny_encoder.tokenizer))


def norms(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The two LayerNorms that follow attention and MLP, wherever a family keeps them."""
    found = [m for m in block.modules() if isinstance(m, nn.LayerNorm)]
    assert len(found) == 2
    return found[0], found[1]


@pytest.mark.parametrize("family", POST_NORM_ENCODERS)
def test_outputs_of_a_post_norm_encoder_are_taken_before_the_norm(
    family: str, tiny_encoder: TextEncoder
) -> None:
    model = encoder(family, tiny_encoder.tokenizer)
    tokens = model.tokenize(TEXTS)
    got = model.activations(tokens, model.hook_names())
    for layer, block in enumerate(blocks_of(model.hf, model.n_layers)):
        resid, attn, mlp, out = (
            got[f"blocks.{layer}.hook_{k}"]
            for k in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        after_attn, after_mlp = norms(block)
        with torch.no_grad():
            rebuilt = after_mlp(mlp + after_attn(attn + resid))
        assert (rebuilt - out)[tokens.mask].abs().max() < 1e-5


def test_an_unlisted_family_offers_residual_sites_only(tiny_lm: LanguageModel) -> None:
    config = transformers.OPTConfig(
        vocab_size=N_WORDS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=48,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
    )
    model = from_hf(transformers.OPTForCausalLM(config), tiny_lm.tokenizer, name="opt")
    ends = {name.rsplit("hook_", 1)[1] for name in model.hook_names()}
    assert ends == {"resid_pre", "resid_post"}
    assert len(model.hook_names()) == 4


def test_two_lists_of_blocks_are_an_error_that_names_them() -> None:
    two = nn.ModuleDict(
        {name: nn.ModuleList(nn.Linear(1, 1) for _ in range(3)) for name in ("text", "vision")}
    )
    with pytest.raises(FormatError, match=r"text \(3\), vision \(3\)"):
        blocks_of(two, 3)


def test_only_bert_attention_is_called_otherwise_in_the_bridge() -> None:
    assert bridge_name("blocks.1.hook_attn_out", "bert") == "blocks.1.attn.o.hook_out"
    assert bridge_name("blocks.1.hook_mlp_out", "bert") == "blocks.1.hook_mlp_out"
    assert bridge_name("blocks.1.hook_attn_out", "llama") == "blocks.1.hook_attn_out"
