"""Sites that only transformer_lens names: read, edited, mixed with plain ones, or refused."""

import copy

import pytest
import torch
import transformers
from torch import Tensor

from saetools.errors import ConfigError, HookNotFoundError, ShapeError
from saetools.models import LanguageModel, TextEncoder, from_hf, load_model
from saetools.models.hf_subject import HFSubject

TEXTS = ["Once upon a time there was a little dog.", "The end."]
PROMPT = "Once upon a time there was a little girl"


def louder(x: Tensor, mask: Tensor) -> Tensor:
    return x + 3.0 * mask.unsqueeze(-1) * torch.linspace(-1, 1, x.shape[-1])


def test_queries_and_neurons_are_the_outputs_of_their_matrices(stories: LanguageModel) -> None:
    tokens = stories.tokenize(TEXTS)
    block = stories.hf.model.layers[2]
    names = [
        "blocks.2.attn.hook_q",
        "blocks.2.mlp.hook_post",
        "resid_pre.2",
        "blocks.2.hook_resid_mid",
    ]
    got = stories.activations(tokens, names)
    with torch.no_grad():
        q = block.self_attn.q_proj(block.input_layernorm(got["resid_pre.2"]))
        mid = got["blocks.2.hook_resid_mid"]
        normed = block.post_attention_layernorm(mid)
        post = block.mlp.act_fn(block.mlp.gate_proj(normed)) * block.mlp.up_proj(normed)
    assert (got["blocks.2.attn.hook_q"] - q).abs().max() < 1e-5
    assert (got["blocks.2.mlp.hook_post"] - post).abs().max() < 1e-5
    attn = stories.activations(tokens, ["attn_out.2"])["attn_out.2"]
    assert (mid - got["resid_pre.2"] - attn)[tokens.mask].abs().max() < 1e-5


def test_widths_join_the_heads(stories: LanguageModel) -> None:
    assert stories.width("blocks.0.attn.hook_q") == 64
    assert stories.width("blocks.0.attn.hook_k") == 32
    assert stories.width("blocks.0.mlp.hook_post") == 172


def test_a_pattern_is_rows_of_probabilities_without_a_fixed_width(stories: LanguageModel) -> None:
    tokens = stories.tokenize([PROMPT])
    length = tokens.ids.shape[1]
    name = "blocks.1.attn.hook_pattern"
    pattern = stories.activations(tokens, [name])[name]
    assert pattern.shape == (1, length, 8 * length)
    assert torch.allclose(pattern.view(length, 8, length).sum(-1), torch.ones(length, 8))
    with pytest.raises(ShapeError, match="no fixed width"):
        stories.width(name)


@pytest.mark.parametrize("fixture", ["tiny_lm", "random_gpt2", "stories"])
def test_an_edit_of_queries_holds_in_generation(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(fixture)
    plain = model.generate(PROMPT, 12)
    with model.editing({"blocks.1.attn.hook_v": louder}):
        cached = model.generate(PROMPT, 12)
        assert cached == model.generate(PROMPT, 12, use_cache=False)
    assert cached != plain
    assert model.generate(PROMPT, 12) == plain


@pytest.mark.parametrize("fixture", ["tiny_lm", "random_gpt2", "stories"])
def test_generation_in_the_bridge_is_that_of_the_plain_model(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(fixture)
    plain = model.generate(PROMPT, 12)
    with model.editing({"blocks.1.attn.hook_v": lambda x, mask: x}):
        assert model.generate(PROMPT, 12) == plain


def test_an_edit_in_the_bridge_does_what_the_same_edit_does_outside(
    stories: LanguageModel,
) -> None:
    tokens = stories.tokenize(TEXTS)
    with stories.editing({"mlp_out.1": louder}):
        plain = stories.logits(tokens)
    with stories.editing({"blocks.1.mlp.hook_out": louder}):
        bridged = stories.logits(tokens)
    assert (plain - bridged)[tokens.mask].abs().max() < 1e-4
    assert (plain - stories.logits(tokens))[tokens.mask].abs().max() > 0.1


@pytest.mark.parametrize("plain_is_outside", [True, False])
def test_plain_edits_and_bridge_edits_work_together(
    stories: LanguageModel, plain_is_outside: bool
) -> None:
    tokens = stories.tokenize(TEXTS)
    blocks = [{"resid_post.0": louder}, {"blocks.1.mlp.hook_out": louder}]
    outer, inner = blocks if plain_is_outside else blocks[::-1]
    with stories.editing(outer), stories.editing(inner):
        both = stories.logits(tokens)
        q = stories.activations(tokens, ["blocks.2.attn.hook_q"])["blocks.2.attn.hook_q"]
    with stories.editing({"resid_post.0": louder, "mlp_out.1": louder}):
        want = stories.logits(tokens)
        want_q = stories.activations(tokens, ["blocks.2.attn.hook_q"])["blocks.2.attn.hook_q"]
    assert (both - want)[tokens.mask].abs().max() < 1e-4
    assert (q - want_q)[tokens.mask].abs().max() < 1e-4


def test_an_edit_that_changes_nothing_changes_no_bit(stories: LanguageModel) -> None:
    tokens = stories.tokenize(TEXTS)
    with stories.editing({"blocks.1.attn.hook_z": lambda x, mask: x}):
        one = stories.logits(tokens)
    with stories.editing({"blocks.3.attn.hook_pattern": lambda x, mask: x}):
        assert torch.equal(one, stories.logits(tokens))


def test_the_plain_module_refuses_to_run_unedited(tiny_lm: LanguageModel) -> None:
    tokens = tiny_lm.tokenize(TEXTS)
    with (
        tiny_lm.editing({"blocks.1.attn.hook_q": louder}),
        pytest.raises(ConfigError, match=r"blocks\.1\.attn\.hook_q"),
    ):
        tiny_lm.hf(input_ids=tokens.ids)
    tiny_lm.hf(input_ids=tokens.ids)


def test_booting_changes_nothing_and_copies_no_weights(tiny_lm: LanguageModel) -> None:
    model = load_model("tiny", seed=3)
    assert isinstance(model, HFSubject)
    tokens = model.tokenize(TEXTS)
    keys, generator = list(model.hf.state_dict()), torch.get_rng_state()
    with torch.no_grad():
        want = model.hf(input_ids=tokens.ids).logits
        with model.editing({"resid_post.0": lambda x, mask: x}):
            model.width("blocks.0.attn.hook_q")
        assert torch.equal(model.hf(input_ids=tokens.ids).logits, want)
    assert list(model.hf.state_dict()) == keys
    assert model.hf.config._attn_implementation == "sdpa"
    assert torch.equal(torch.get_rng_state(), generator)
    held = {p.data_ptr() for p in model.hf.parameters()}
    assert {p.data_ptr() for p in model._bridge().root.parameters()} <= held


def test_new_weights_reach_the_bridge(random_gpt2: LanguageModel) -> None:
    name = "blocks.1.attn.hook_q"
    tokens = random_gpt2.tokenize(TEXTS)
    before = random_gpt2.activations(tokens, [name])[name]
    bias = random_gpt2.hf.transformer.h[1].attn.c_attn.bias
    try:
        with torch.no_grad():
            bias[:32] += 1.0
        after = random_gpt2.activations(tokens, [name])[name]
    finally:
        with torch.no_grad():
            bias[:32] -= 1.0
    assert torch.allclose(after, before + 1.0, atol=1e-5)


def test_encoders_reach_their_neurons_too(minilm: TextEncoder) -> None:
    name = "blocks.2.mlp.hook_post"
    tokens = minilm.tokenize(TEXTS)
    assert minilm.width(name) == 1536
    post = minilm.activations(tokens, [name])[name]
    out = minilm.activations(tokens, ["mlp_out.2"])["mlp_out.2"]
    with torch.no_grad():
        rebuilt = minilm.hf.encoder.layer[2].output.dense(post)
    assert (rebuilt - out)[tokens.mask].abs().max() < 1e-4
    plain = minilm.embed(TEXTS)
    with minilm.editing({name: lambda x, mask: torch.zeros_like(x)}):
        gone = minilm.embed(TEXTS)
    assert (gone - plain).abs().max() > 1e-3
    assert torch.equal(minilm.embed(TEXTS), plain)


def test_a_model_unknown_to_transformer_lens_says_so_and_what_there_is(
    tiny_encoder: TextEncoder,
) -> None:
    config = transformers.DistilBertConfig(
        vocab_size=700, dim=32, n_layers=2, n_heads=4, hidden_dim=48
    )
    model = from_hf(transformers.DistilBertModel(config), tiny_encoder.tokenizer, name="distil")
    with pytest.raises(HookNotFoundError) as caught:
        model.resolve("blocks.0.attn.hook_q")
    message = str(caught.value)
    assert "blocks.{0-1}.hook_attn_out" in message
    assert "cannot boot DistilBertModel" in message
    assert len(message) < 700


def test_a_hook_that_waits_for_a_setting_does_not_exist(tiny_lm: LanguageModel) -> None:
    with pytest.raises(HookNotFoundError):
        tiny_lm.resolve("blocks.0.attn.hook_result")


def test_a_bridge_of_the_users_own_is_taken_as_it_is(stories: LanguageModel) -> None:
    from transformer_lens import TransformerBridge

    hf = copy.deepcopy(stories.hf)
    tl = TransformerBridge.boot_transformers(
        "mine", hf_model=hf, tokenizer=stories.tokenizer, device="cpu"
    )
    model = from_hf(tl, stories.tokenizer, name="mine")
    assert isinstance(model, LanguageModel)
    assert model.fingerprint == stories.fingerprint
    tokens = model.tokenize(TEXTS)
    names = [*stories.hook_names(), "blocks.1.attn.hook_q"]
    for name, x in model.activations(tokens, names).items():
        want = stories.activations(tokens, [name])[name]
        assert (x - want)[tokens.mask].abs().max() < 1e-5
    with model.editing({"mlp_out.1": louder}), stories.editing({"mlp_out.1": louder}):
        assert model.generate(PROMPT, 10) == stories.generate(PROMPT, 10)
    _, cache = tl.run_with_cache(tokens.ids)
    attn_out = model.activations(tokens, ["attn_out.2"])["attn_out.2"]
    assert (cache["blocks.2.hook_attn_out"] - attn_out)[tokens.mask].abs().max() < 1e-5


def test_a_bridge_with_folded_weights_is_refused(stories: LanguageModel) -> None:
    from transformer_lens import TransformerBridge

    hf = copy.deepcopy(stories.hf)
    tl = TransformerBridge.boot_transformers(
        "mine", hf_model=hf, tokenizer=stories.tokenizer, device="cpu"
    )
    tl.enable_compatibility_mode()
    with pytest.raises(ConfigError, match="compatibility mode"):
        from_hf(tl, stories.tokenizer, name="mine")
