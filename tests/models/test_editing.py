"""Edits reach every forward pass of their block, content only, and leave nothing behind."""

import pytest
import torch
from torch import Tensor

from saetools.errors import HookNotFoundError, ShapeError
from saetools.models import Edit, LanguageModel, SubjectModel, TextEncoder

TEXTS = ["Once upon a time there was a little dog.", "The end."]
PROMPT = "Once upon a time there was a little girl"


def unchanged(x: Tensor, mask: Tensor) -> Tensor:
    return x


def adding(amount: float) -> Edit:
    """Add along a fixed direction at content tokens."""

    def edit(x: Tensor, mask: Tensor) -> Tensor:
        direction = torch.linspace(-1, 1, x.shape[-1])
        return x + amount * direction * mask.unsqueeze(-1)

    return edit


def hook_count(model: SubjectModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())


@pytest.mark.parametrize("kind", ["resid_pre", "attn_out", "mlp_out", "resid_post"])
@pytest.mark.parametrize("fixture", ["tiny_lm", "random_gpt2", "stories"])
def test_generation_with_and_without_cache_is_edited_alike(
    fixture: str, kind: str, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(fixture)
    plain = model.generate(PROMPT, 12)
    with model.editing({f"{kind}.1": adding(4.0)}):
        cached = model.generate(PROMPT, 12)
        uncached = model.generate(PROMPT, 12, use_cache=False)
    assert cached == uncached
    assert cached != plain
    assert model.generate(PROMPT, 12) == plain


@pytest.mark.parametrize("fixture", ["tiny_lm", "random_gpt2", "tiny_encoder"])
def test_an_edit_that_changes_nothing_changes_no_bit(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    model: SubjectModel = request.getfixturevalue(fixture)
    tokens = model.tokenize(TEXTS)
    last = f"resid_post.{model.n_layers - 1}"
    want = model.activations(tokens, [last])[last]
    with model.editing(dict.fromkeys(model.hook_names(), unchanged)):
        assert torch.equal(model.activations(tokens, [last])[last], want)


@pytest.mark.parametrize("kind", ["resid_pre", "attn_out", "mlp_out", "resid_post"])
@pytest.mark.parametrize("fixture", ["tiny_lm", "random_gpt2", "tiny_encoder"])
def test_what_an_edit_returns_is_what_is_read_there(
    fixture: str, kind: str, request: pytest.FixtureRequest
) -> None:
    model: SubjectModel = request.getfixturevalue(fixture)
    tokens = model.tokenize(TEXTS)
    name = f"{kind}.1"
    before = model.activations(tokens, [name])[name]
    with model.editing({name: adding(2.0)}):
        after = model.activations(tokens, [name])[name]
    assert torch.equal(after, adding(2.0)(before, tokens.content))
    assert torch.equal(after[~tokens.content], before[~tokens.content])


def test_the_inner_edit_sees_the_result_of_the_outer(tiny_lm: LanguageModel) -> None:
    tokens = tiny_lm.tokenize(TEXTS)
    name = "resid_post.1"
    before = tiny_lm.activations(tokens, [name])[name]
    with (
        tiny_lm.editing({name: lambda x, mask: x + 1}),
        tiny_lm.editing({"blocks.1.hook_out": lambda x, mask: x * 2}),
    ):
        both = tiny_lm.activations(tokens, [name])[name]
    assert torch.equal(both, (before + 1) * 2)


def test_masks_follow_a_cached_generation(tiny_lm: LanguageModel) -> None:
    seen: list[Tensor] = []

    def look(x: Tensor, mask: Tensor) -> Tensor:
        assert mask.shape == x.shape[:2]
        seen.append(mask.clone())
        return x

    with tiny_lm.editing({"resid_post.0": look}):
        tiny_lm.generate(PROMPT, 4)
    prompt = tiny_lm.tokenize([PROMPT])
    assert torch.equal(seen[0], prompt.content)
    assert not bool(seen[0][0, 0])
    assert all(mask.shape == (1, 1) for mask in seen[1:])


def test_masks_leave_out_padding_and_special_tokens(tiny_encoder: TextEncoder) -> None:
    masks: list[Tensor] = []

    def look(x: Tensor, mask: Tensor) -> Tensor:
        masks.append(mask)
        return x

    tokens = tiny_encoder.tokenize(TEXTS)
    with tiny_encoder.editing({"resid_pre.0": look}):
        tiny_encoder.embed(tokens)
    assert torch.equal(masks[0], tokens.content)
    assert int(masks[0][1].sum()) == int(tokens.mask[1].sum()) - 2


def test_the_callers_own_forward_pass_is_edited_and_keeps_gradients(
    tiny_lm: LanguageModel,
) -> None:
    tokens = tiny_lm.tokenize(TEXTS)
    shift = torch.zeros(tiny_lm.d_model, requires_grad=True)
    with tiny_lm.editing({"resid_post.1": lambda x, mask: x + shift * mask.unsqueeze(-1)}):
        out = tiny_lm.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long())
    out.logits[:, -1].logsumexp(-1).sum().backward()
    assert shift.grad is not None
    assert shift.grad.abs().max() > 0
    tiny_lm.hf.zero_grad()


def test_the_inner_model_called_past_its_head_has_the_right_mask(tiny_lm: LanguageModel) -> None:
    tokens = tiny_lm.tokenize(TEXTS)
    with tiny_lm.editing({"resid_post.3": adding(3.0)}), torch.no_grad():
        whole = tiny_lm.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long()).logits
        inner = tiny_lm.hf.model(input_ids=tokens.ids, attention_mask=tokens.mask.long())
        assert torch.equal(tiny_lm.hf.lm_head(inner.last_hidden_state), whole)


def test_nothing_remains_after_an_exception(tiny_lm: LanguageModel) -> None:
    before = hook_count(tiny_lm)
    want = tiny_lm.loss(TEXTS)

    def fail(x: Tensor, mask: Tensor) -> Tensor:
        raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        tiny_lm.editing({"resid_post.0": adding(1.0)}),
        tiny_lm.editing({"resid_post.1": fail}),
    ):
        tiny_lm.loss(TEXTS)
    assert hook_count(tiny_lm) == before
    assert tiny_lm.loss(TEXTS) == want


def test_an_edit_of_another_shape_is_refused(tiny_lm: LanguageModel) -> None:
    with (
        tiny_lm.editing({"resid_post.0": lambda x, mask: x[:, :1]}),
        pytest.raises(ShapeError, match=r"blocks\.0\.hook_resid_post"),
    ):
        tiny_lm.logits(tiny_lm.tokenize(TEXTS))


def test_an_unknown_hook_is_refused_before_the_block_begins(tiny_lm: LanguageModel) -> None:
    with pytest.raises(HookNotFoundError):
        tiny_lm.editing({"resid_post.99": unchanged})
