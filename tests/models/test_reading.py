"""Plain hooks read what Hugging Face computes, and run no further than they must."""

import pytest
import torch

from saetools.models import LanguageModel, SubjectModel, TextEncoder

TEXTS = ["Once upon a time there was a little dog.", "The end."]


def hidden_states(model: SubjectModel, texts: list[str]) -> tuple[torch.Tensor, ...]:
    tokens = model.tokenize(texts)
    with torch.no_grad():
        out = model.hf(
            input_ids=tokens.ids, attention_mask=tokens.mask.long(), output_hidden_states=True
        )
    return tuple(out.hidden_states)


def hook_count(model: SubjectModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())


@pytest.mark.parametrize("fixture", ["tiny_lm", "tiny_encoder", "stories", "minilm"])
def test_residual_sites_are_the_hidden_states_to_the_last_bit(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    model: SubjectModel = request.getfixturevalue(fixture)
    states = hidden_states(model, TEXTS)
    tokens = model.tokenize(TEXTS)
    for layer in range(model.n_layers):
        name = f"resid_pre.{layer}"
        assert torch.equal(model.activations(tokens, [name])[name], states[layer])
        # Hugging Face keeps a language model's last state only after the final norm.
        if layer + 1 < model.n_layers or isinstance(model, TextEncoder):
            name = f"resid_post.{layer}"
            assert torch.equal(model.activations(tokens, [name])[name], states[layer + 1])


def test_many_sites_in_one_pass_equal_one_pass_each(tiny_lm: LanguageModel) -> None:
    tokens = tiny_lm.tokenize(TEXTS)
    together = tiny_lm.activations(tokens, tiny_lm.hook_names())
    assert list(together) == list(tiny_lm.hook_names())
    for name, x in together.items():
        assert x.shape == (*tokens.ids.shape, tiny_lm.width(name))
        assert not x.requires_grad
        assert torch.equal(x, tiny_lm.activations(tokens, [name])[name])


def test_two_spellings_of_a_site_both_come_back(tiny_lm: LanguageModel) -> None:
    tokens = tiny_lm.tokenize(TEXTS)
    got = tiny_lm.activations(tokens, ["resid_post.1", "blocks.1.hook_out"])
    assert set(got) == {"resid_post.1", "blocks.1.hook_out"}
    assert torch.equal(got["resid_post.1"], got["blocks.1.hook_out"])


@pytest.mark.parametrize(("name", "n_run"), [("resid_pre.2", 2), ("mlp_out.2", 3)])
def test_later_layers_do_not_run(tiny_lm: LanguageModel, name: str, n_run: int) -> None:
    begun: list[int] = []
    layers = tiny_lm.hf.model.layers
    handles = [
        layer.mlp.register_forward_pre_hook(lambda *_, i=i: begun.append(i))
        for i, layer in enumerate(layers)
    ]
    heads: list[int] = []
    handles.append(tiny_lm.hf.lm_head.register_forward_hook(lambda *_: heads.append(1)))
    try:
        tiny_lm.activations(tiny_lm.tokenize(TEXTS), [name])
    finally:
        for handle in handles:
            handle.remove()
    assert begun == list(range(n_run))
    assert heads == []


@pytest.mark.parametrize("fixture", ["tiny_encoder", "minilm", "tiny_lm"])
def test_padding_does_not_change_content(fixture: str, request: pytest.FixtureRequest) -> None:
    model: SubjectModel = request.getfixturevalue(fixture)
    name = f"resid_post.{model.n_layers - 1}"
    alone = model.tokenize([TEXTS[1]])
    padded = model.tokenize(TEXTS)
    assert padded.ids.shape[1] > alone.ids.shape[1]
    want = model.activations(alone, [name])[name][0][alone.content[0]]
    got = model.activations(padded, [name])[name][1][padded.content[1]]
    assert (want - got).abs().max() < 1e-5


def test_reading_leaves_no_hook_and_ignores_training_mode(tiny_encoder: TextEncoder) -> None:
    tokens = tiny_encoder.tokenize(TEXTS)
    before = hook_count(tiny_encoder)
    want = tiny_encoder.activations(tokens, ["resid_post.1"])["resid_post.1"]
    tiny_encoder.hf.train()
    try:
        got = tiny_encoder.activations(tokens, ["resid_post.1"])["resid_post.1"]
        assert all(module.training for module in tiny_encoder.hf.modules())
    finally:
        tiny_encoder.hf.eval()
    assert torch.equal(want, got)
    assert hook_count(tiny_encoder) == before


def test_no_names_give_no_activations(tiny_lm: LanguageModel) -> None:
    assert tiny_lm.activations(tiny_lm.tokenize(TEXTS), []) == {}
