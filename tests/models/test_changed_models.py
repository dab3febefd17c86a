"""Fine-tuned, adapted and quantized models are read as they are, and have prints of their own."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from saetools.errors import ConfigError, FormatError
from saetools.models import LanguageModel, from_hf, load_model
from saetools.models.weights import fingerprint_weights

TEXTS = ["Once upon a time there was a little dog.", "The end."]


def lora(model: LanguageModel) -> Any:
    peft = pytest.importorskip("peft", reason="needs the extra [unlearn], which has peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(copy.deepcopy(model.hf), config).eval()
    torch.manual_seed(0)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    return wrapped


def test_a_peft_model_is_read_with_its_adapters(tiny_lm: LanguageModel) -> None:
    wrapped = lora(tiny_lm)
    model = from_hf(wrapped, tiny_lm.tokenizer, name="adapted")
    assert isinstance(model, LanguageModel)
    assert model.hook_names() == tiny_lm.hook_names()
    assert model.fingerprint != tiny_lm.fingerprint
    tokens = model.tokenize(TEXTS)
    with torch.no_grad():
        out = wrapped(
            input_ids=tokens.ids, attention_mask=tokens.mask.long(), output_hidden_states=True
        )
    names = [f"resid_post.{layer}" for layer in range(model.n_layers - 1)]
    got = model.activations(tokens, names)
    for layer, name in enumerate(names):
        assert torch.equal(got[name], out.hidden_states[layer + 1])
        plain = tiny_lm.activations(tokens, [name])[name]
        assert (got[name] - plain)[tokens.mask].abs().max() > 0.01
    with wrapped.disable_adapter():
        off = model.activations(tokens, names)
    assert torch.equal(off[names[1]], tiny_lm.activations(tokens, names)[names[1]])


def test_an_edit_holds_when_the_peft_model_itself_is_called(tiny_lm: LanguageModel) -> None:
    wrapped = lora(tiny_lm)
    model = from_hf(wrapped, tiny_lm.tokenizer, name="adapted")
    assert isinstance(model, LanguageModel)
    tokens = model.tokenize(TEXTS)
    call = {"input_ids": tokens.ids, "attention_mask": tokens.mask.long()}
    seen = []

    def away(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.append(mask)
        return x + mask.unsqueeze(-1)

    with torch.no_grad(), model.editing({"resid_post.1": away}):
        logits = wrapped(**call).logits
        assert torch.equal(logits, model.logits(tokens))
    assert all(torch.equal(mask, tokens.content) for mask in seen)
    assert not torch.equal(logits, model.logits(tokens))


def test_sites_of_the_bridge_have_the_adapters_too(tiny_lm: LanguageModel) -> None:
    model = from_hf(lora(tiny_lm), tiny_lm.tokenizer, name="adapted")
    tokens = model.tokenize(TEXTS)
    name = "blocks.1.attn.hook_q"
    got = model.activations(tokens, [name, "resid_pre.1"])
    block = model.hf.model.layers[1]
    with torch.no_grad():
        normed = block.input_layernorm(got["resid_pre.1"])
        adapted, plain = block.self_attn.q_proj(normed), block.self_attn.q_proj.base_layer(normed)
    assert (got[name] - adapted).abs().max() < 1e-5
    assert (got[name] - plain).abs().max() > 0.01


def test_a_learned_prompt_is_refused(tiny_lm: LanguageModel) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra [unlearn], which has peft")
    config = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(copy.deepcopy(tiny_lm.hf), config)
    with pytest.raises(ConfigError, match=r"PROMPT_TUNING.*get_base_model"):
        from_hf(wrapped, tiny_lm.tokenizer, name="prompted")


def test_a_folder_with_an_adapter_alone_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(FormatError, match=r"is a PEFT adapter.*from_hf.*merge_and_unload"):
        load_model(tmp_path)


def quantized(model: LanguageModel) -> LanguageModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated, and has no successor in torch
        try:
            hf = torch.ao.quantization.quantize_dynamic(
                copy.deepcopy(model.hf), {nn.Linear}, dtype=torch.qint8
            )
        except (AttributeError, RuntimeError) as error:
            pytest.skip(f"needs a torch with dynamic quantization: {error}")
    made = from_hf(hf, model.tokenizer, name="quantized")
    assert isinstance(made, LanguageModel)
    return made


def test_a_quantized_model_is_read_and_told_from_others(tiny_lm: LanguageModel) -> None:
    model = quantized(tiny_lm)
    tokens = model.tokenize(TEXTS)
    got = model.activations(tokens, ["resid_post.2", "mlp_out.1"])
    want = tiny_lm.activations(tokens, ["resid_post.2", "mlp_out.1"])
    for name, x in got.items():
        assert x.dtype == torch.float32
        error = (x - want[name])[tokens.mask].norm() / want[name][tokens.mask].norm()
        assert 0 < error < 0.1
    assert len(model.generate("the dog", 5)) > 0
    again, other = quantized(tiny_lm), quantized(load_model("tiny", seed=1))  # type: ignore[arg-type]
    assert model.fingerprint == again.fingerprint
    assert len({model.fingerprint, other.fingerprint, tiny_lm.fingerprint}) == 3


def test_one_int8_weight_changes_the_fingerprint(tiny_lm: LanguageModel) -> None:
    changed = copy.deepcopy(tiny_lm.hf)
    with torch.no_grad():
        changed.model.layers[1].mlp.up_proj.weight[0, 0] *= -1.0
    other = quantized(from_hf(changed, tiny_lm.tokenizer))  # type: ignore[arg-type]
    assert other.fingerprint != quantized(tiny_lm).fingerprint


def test_integer_parameters_count_as_well() -> None:
    class Int8(nn.Module):
        def __init__(self, value: int) -> None:
            super().__init__()
            data = torch.full((3, 4), value, dtype=torch.int8)
            self.weight = nn.Parameter(data, requires_grad=False)

    assert fingerprint_weights(Int8(3)) == fingerprint_weights(Int8(3))
    assert fingerprint_weights(Int8(3)) != fingerprint_weights(Int8(4))


def test_a_fine_tuned_model_in_memory_is_read_as_it_is_now(tiny_lm: LanguageModel) -> None:
    tuned = copy.deepcopy(tiny_lm.hf).train()
    model = from_hf(tuned, tiny_lm.tokenizer, name="tuned")
    assert model.fingerprint == tiny_lm.fingerprint
    tokens = model.tokenize(TEXTS)
    before = model.activations(tokens, ["resid_post.2"])["resid_post.2"]
    optimizer = torch.optim.SGD(tuned.parameters(), lr=0.1)
    tuned(input_ids=tokens.ids, labels=tokens.ids).loss.backward()
    optimizer.step()
    after = model.activations(tokens, ["resid_post.2"])["resid_post.2"]
    assert (after - before)[tokens.mask].abs().max() > 1e-3
    assert model.fingerprint != tiny_lm.fingerprint
    assert tuned.training
