"""The same tokens are chosen with and without cache, however padded, alone and in a batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from saetools.errors import ConfigError, UnknownNameError
from saetools.intervene import (
    Add,
    AddDirection,
    Direction,
    Positions,
    Request,
    intervene,
    steer,
)
from saetools.intervene.token_classes import vocabulary_mask
from saetools.models.base import LanguageModel, TextEncoder, TokenBatch
from saetools.sae import SAE, build_sae

HOOK = "blocks.1.hook_resid_post"
PROMPTS = ["the dog ran over the big tree", "a girl said", "we play with 2 dogs."]


def moved(model: LanguageModel, sae: SAE, positions: Positions | str, tokens: TokenBatch) -> Tensor:
    """Where the activation differs from the plain one."""
    before = model.activations(tokens, [HOOK])[HOOK]
    with steer(model, sae, {7: 6.0}, positions=positions):
        after = model.activations(tokens, [HOOK])[HOOK]
    return (after != before).any(-1) & tokens.mask


def watched(model: LanguageModel, sae: SAE, positions: Any, run: Callable[[], Any]) -> list[Tensor]:
    """For each forward pass of `run`, where the edit moved the activation."""
    seen: list[Tensor] = []
    kept: list[Tensor] = []

    def before(x: Tensor, content: Tensor) -> Tensor:
        kept[:] = [x.clone()]
        return x

    def after(x: Tensor, content: Tensor) -> Tensor:
        seen.append((x != kept[0]).any(-1))
        return x

    with (
        model.editing({HOOK: before}),
        steer(model, sae, {7: 6.0}, positions=positions),
        model.editing({HOOK: after}),
    ):
        run()
    return seen


def generated(model: LanguageModel, prompts: list[str], side: str, **options: Any) -> Tensor:
    """What `generate` of Hugging Face makes of a batch that is padded on one side."""
    batch = model.tokenize(prompts)
    ids, mask = batch.ids.clone(), batch.mask.clone()
    if side == "left":
        for i, n in enumerate(mask.sum(1).tolist()):
            ids[i], mask[i] = ids[i].roll(-n), mask[i].roll(-n)
    hf: Any = model.hf
    with torch.no_grad():
        out: Tensor = hf.generate(
            input_ids=ids, attention_mask=mask.long(), max_new_tokens=6, min_new_tokens=6, **options
        )
    return out[:, ids.shape[1] :]


ALL = ["all", "prompt", "generated", "last", "every"]


@pytest.mark.parametrize(("beams", "side"), [(1, "left"), (3, "left"), (1, "right")])
@pytest.mark.parametrize("positions", [*ALL, Positions(spans=((2, 4), (-1, None)))])
def test_generation_is_the_same_with_and_without_cache(
    tiny_lm: LanguageModel, sae: SAE, positions: Any, beams: int, side: str
) -> None:
    plain = generated(tiny_lm, PROMPTS, side, num_beams=beams, do_sample=False)
    with steer(tiny_lm, sae, {7: 20.0}, positions=positions):
        options = {"num_beams": beams, "do_sample": False}
        cached = generated(tiny_lm, PROMPTS, side, **options, use_cache=True)
        uncached = generated(tiny_lm, PROMPTS, side, **options, use_cache=False)
    assert torch.equal(cached, uncached)
    assert not torch.equal(cached, plain)


@pytest.mark.parametrize("positions", ALL)
def test_sampling_is_the_same_with_and_without_cache(
    tiny_lm: LanguageModel, sae: SAE, positions: str
) -> None:
    with steer(tiny_lm, sae, {7: 20.0}, positions=positions):
        texts = [
            tiny_lm.generate("the dog", 10, temperature=1.0, seed=3, use_cache=cache)
            for cache in (True, False)
        ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize(
    "positions", [*ALL, Positions(spans=((-2, None),)), Positions(tokens="word")]
)
def test_a_padded_batch_equals_its_prompts_one_by_one(
    tiny_lm: LanguageModel, sae: SAE, positions: Any, beams: int
) -> None:
    options = {"num_beams": beams, "do_sample": False}
    with steer(tiny_lm, sae, {7: 20.0}, positions=positions):
        together = generated(tiny_lm, PROMPTS, "left", **options)
        alone = [generated(tiny_lm, [prompt], "left", **options) for prompt in PROMPTS]
    assert torch.equal(together, torch.cat(alone))


def test_each_place_is_where_it_says_in_every_pass_of_a_generation(
    tiny_lm: LanguageModel, sae: SAE
) -> None:
    n = int(tiny_lm.tokenize(["the dog ran"]).mask.sum())
    for cache in (True, False):
        run = lambda: tiny_lm.generate("the dog ran", 3, use_cache=cache)  # noqa: E731, B023
        masks = {where: watched(tiny_lm, sae, where, run) for where in ALL}
        steps = [[range(n), [n], [n + 1]], [range(n), range(n + 1), range(n + 2)]][not cache]
        for i, columns in enumerate(steps):
            found = {where: masks[where][i][0].tolist() for where in ALL}
            assert found["all"] == [c > 0 for c in columns]  # BOS is no content
            assert found["every"] == [True for _ in columns]
            assert found["prompt"] == [0 < c < n for c in columns]
            assert found["generated"] == [c >= n for c in columns]
            assert found["last"] == [c == n - 1 for c in columns]


def test_outside_generation_a_text_is_all_prompt(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch
) -> None:
    assert torch.equal(moved(tiny_lm, sae, "prompt", tokens), tokens.content)
    assert not moved(tiny_lm, sae, "generated", tokens).any()
    last = moved(tiny_lm, sae, "last", tokens)
    assert last.sum(1).tolist() == [1, 1, 1]
    ends = tokens.mask.sum(1) - 1
    assert torch.equal(last.long().argmax(1), ends)
    every = moved(tiny_lm, sae, "every", tokens)
    assert torch.equal(every, tokens.mask)


def test_a_step_of_somebodys_own_loop_over_a_cache_counts_as_generated(
    tiny_lm: LanguageModel, sae: SAE
) -> None:
    ids = tiny_lm.tokenize(["the dog ran over"]).ids

    def own_loop() -> None:
        hf: Any = tiny_lm.hf
        with torch.no_grad():
            out = hf(input_ids=ids[:, :-1], use_cache=True)
            name = "cache" if getattr(out, "cache", None) is not None else "past_key_values"
            hf(input_ids=ids[:, -1:], **{name: out[name]})

    first, second = watched(tiny_lm, sae, "generated", own_loop)
    assert not first.any()
    assert second.all()


def test_spans_count_from_the_start_or_from_the_prompts_end(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch
) -> None:
    place = torch.arange(tokens.ids.shape[1]).expand_as(tokens.ids)
    length = tokens.mask.sum(1, keepdim=True)
    some = moved(tiny_lm, sae, Positions(spans=((1, 3), (-1, None))), tokens)
    inside = ((place >= 1) & (place < 3)) | (place >= length - 1)
    assert torch.equal(some, inside & tokens.content)
    first = moved(tiny_lm, sae, Positions(spans=((0, 1),), specials=True), tokens)
    assert torch.equal(first, place == 0)


def test_token_classes_choose_by_what_a_reader_sees(tiny_lm: LanguageModel, sae: SAE) -> None:
    tokens = tiny_lm.tokenize(["the dog said no, 2 dogs."])
    texts = [tiny_lm.tokenizer.decode([i]) for i in tokens.ids[0].tolist()]
    for name, wanted in [
        ("punctuation", lambda text: text in (",", ".")),
        ("number", str.isdigit),
        ("re:^ ?dog", lambda text: text.strip().startswith("dog")),
    ]:
        mask = moved(tiny_lm, sae, Positions(tokens=name), tokens)[0].tolist()
        assert mask == [wanted(text.strip()) for text in texts], name
        assert any(mask), name
    the = int(tokens.ids[0, 1])
    mask = moved(tiny_lm, sae, Positions(tokens={the}), tokens)
    assert torch.equal(mask, tokens.ids == the)


def test_the_class_of_words_leaves_out_numbers_and_punctuation(tiny_encoder: TextEncoder) -> None:
    mask = vocabulary_mask(tiny_encoder, "word")
    ids = tiny_encoder.tokenize(["the dog, 7"])
    chosen = mask[ids.ids[0]] & ids.content[0]
    words = [tiny_encoder.tokenizer.decode([int(i)]).strip() for i in ids.ids[0][chosen]]
    assert "".join(words) == "thedog"


def test_positions_of_an_encoder_may_take_its_special_tokens(tiny_encoder: TextEncoder) -> None:
    sae = build_sae("topk", d_in=64, n_latents=32, k=4, meta={"hook_name": HOOK})
    tokens = tiny_encoder.tokenize(["the dog", "a house by the water"])
    before = tiny_encoder.activations(tokens, [HOOK])[HOOK]
    for positions, wanted in (("all", tokens.content), ("every", tokens.mask)):
        with steer(tiny_encoder, sae, {3: 9.0}, positions=positions):
            after = tiny_encoder.activations(tokens, [HOOK])[HOOK]
        assert torch.equal((after != before).any(-1) & tokens.mask, wanted)


def test_what_cannot_be_meant_is_refused(tiny_lm: LanguageModel, sae: SAE) -> None:
    with pytest.raises(UnknownNameError, match=r"numbre.*nearest.*number"):
        Positions(tokens="numbre")
    with pytest.raises(ConfigError, match="regular expression"):
        Positions(tokens="re:(")
    with pytest.raises(ConfigError, match="somewhere"):
        Positions("somewhere")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="empty"):
        Positions(spans=((4, 2),))
    for bad, message in (("re:^never ever$", "no token"), ({10**6}, "1000000")):
        request = Request(Add({1: 1.0}), sae=sae, positions=Positions(tokens=bad))
        with pytest.raises(ConfigError, match=message), intervene(tiny_lm, [request]):
            pass


def test_generate_is_itself_again_after_the_block(tiny_lm: LanguageModel, sae: SAE) -> None:
    names = set(vars(tiny_lm.hf))
    with steer(tiny_lm, sae, {7: 1.0}):
        assert "generate" in vars(tiny_lm.hf)
    assert set(vars(tiny_lm.hf)) == names


def test_positions_hold_at_sites_that_only_transformer_lens_names(
    tiny_lm: LanguageModel, tokens: TokenBatch
) -> None:
    name = "blocks.2.hook_resid_mid"
    direction = Direction(torch.ones(tiny_lm.d_model), hook_name=name)
    before = tiny_lm.activations(tokens, [name])[name]
    for where, wanted in (("all", tokens.content), ("every", tokens.mask), ("generated", None)):
        request = Request(AddDirection(30.0), direction=direction, positions=where)
        with intervene(tiny_lm, [request]):
            after = tiny_lm.activations(tokens, [name])[name]
            text = tiny_lm.generate("the dog", 6)
        found = (after - before).abs().amax(-1).gt(1e-2) & tokens.mask
        assert torch.equal(found, torch.zeros_like(tokens.mask) if wanted is None else wanted)
    # Only what follows the first generated token can differ.
    plain = tiny_lm.tokenize([text, tiny_lm.generate("the dog", 6)]).ids
    n = int(tiny_lm.tokenize(["the dog"]).mask.sum())
    assert torch.equal(plain[0, : n + 1], plain[1, : n + 1])
    assert not torch.equal(plain[0], plain[1])
