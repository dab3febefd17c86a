"""A conditional intervention fires where its trigger says, and leaves all else bit for bit."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saetools.errors import ConfigError, ShapeError
from saetools.intervene import (
    Add,
    Condition,
    EditSizeTrigger,
    LatentTrigger,
    ProbeTrigger,
    Request,
    Scale,
    ablate,
    intervene,
    steer,
)
from saetools.intervene.conditions import Judge
from saetools.models.base import LanguageModel, TokenBatch
from saetools.models.forward_pass import ForwardPass
from saetools.sae import SAE

HOOK = "blocks.1.hook_resid_post"
PROMPTS = ["the dog ran over the big tree", "a girl said", "we play with her dog"]


def read(model: LanguageModel, tokens: TokenBatch) -> Tensor:
    return model.activations(tokens, [HOOK])[HOOK]


@pytest.fixture
def latent(tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch) -> int:
    """A latent that fires on some tokens of some texts, and on no token of another."""
    x = read(tiny_lm, tokens)
    fires = sae.encode(x.flatten(0, 1)).dense().view(*x.shape[:2], -1) > 0
    fires &= tokens.content.unsqueeze(-1)
    texts = fires.any(1).sum(0)  # in how many texts each latent fires
    some = ((texts > 0) & (texts < len(x)) & (fires.sum((0, 1)) > 1)).nonzero().flatten()
    return int(some[0])


def activation(model: LanguageModel, sae: SAE, latent: int, tokens: TokenBatch) -> Tensor:
    x = read(model, tokens)
    found = sae.encode(x.flatten(0, 1)).dense()[:, latent].view(x.shape[:2])
    return found.masked_fill(~tokens.content, 0.0).detach()


def test_tokens_below_the_threshold_keep_their_bits(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, latent: int
) -> None:
    acts = activation(tiny_lm, sae, latent, tokens)
    threshold = float(acts[acts > 0].median())
    before = read(tiny_lm, tokens)
    when = Condition(LatentTrigger(sae, [latent]), threshold)
    with steer(tiny_lm, sae, {9: 5.0}, when=when) as probe:
        after = read(tiny_lm, tokens)
    fires = acts > threshold
    assert fires.any()
    assert torch.equal(after[~fires], before[~fires])
    assert torch.allclose(after[fires], before[fires] + 5 * sae.W_dec[9], atol=1e-5)
    fired = probe.summary().fired
    assert fired is not None
    assert (fired.n_tokens, fired.n_tokens_met) == (int(tokens.content.sum()), int(fires.sum()))
    assert (fired.n_texts, fired.n_texts_met) == (3, int(fires.any(1).sum()))
    assert f"fired on {int(fires.sum())} of" in str(probe.summary())


@pytest.mark.parametrize("statistic", ["max", "mean", "fraction"])
def test_other_texts_keep_their_bits_and_those_that_meet_it_are_edited_whole(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, latent: int, statistic: Any
) -> None:
    acts = activation(tiny_lm, sae, latent, tokens)
    n = tokens.content.sum(1)
    per_text = {
        "max": acts.amax(1),
        "mean": acts.sum(1) / n,
        "fraction": (acts > 0).sum(1) / n,
    }[statistic]
    threshold = float(per_text.unique()[0])
    meets = per_text > threshold
    assert meets.any()
    assert not meets.all()
    plain = tiny_lm.logits(tokens)
    before = read(tiny_lm, tokens)
    when = Condition(LatentTrigger(sae, [latent]), threshold, scope="text", statistic=statistic)
    with steer(tiny_lm, sae, {9: 5.0}, when=when):
        after, logits = read(tiny_lm, tokens), tiny_lm.logits(tokens)
    edited = (after != before).any(-1)
    assert torch.equal(edited, tokens.content & meets.unsqueeze(1))
    assert torch.equal(logits[~meets], plain[~meets])
    assert not torch.equal(logits[meets], plain[meets])
    both = Condition(
        LatentTrigger(sae, [latent]), threshold, scope="token_in_text", statistic=statistic
    )
    with steer(tiny_lm, sae, {9: 5.0}, when=both):
        edited = (read(tiny_lm, tokens) != before).any(-1)
    assert torch.equal(edited, (acts > 0) & meets.unsqueeze(1))


def test_the_edit_size_is_the_squared_change_a_coordinate(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, latent: int
) -> None:
    acts = activation(tiny_lm, sae, latent, tokens)
    trigger = EditSizeTrigger(sae, Scale({latent: -8.0}))
    found = trigger.scores(read(tiny_lm, tokens)[tokens.content])
    length = float(sae.W_dec[latent].detach().norm())
    assert torch.allclose(found, (9 * acts[tokens.content] * length) ** 2 / 64, rtol=1e-4)


def test_a_probe_at_an_earlier_layer_decides(tiny_lm: LanguageModel, sae: SAE) -> None:
    tokens = tiny_lm.tokenize(PROMPTS)
    early = tiny_lm.activations(tokens, ["resid_post.0"])["resid_post.0"]
    dog = int(tiny_lm.tokenizer.encode(" dog", add_special_tokens=False)[0])
    is_dog = tokens.ids == dog
    trigger = ProbeTrigger.fitted(
        early[is_dog], early[tokens.content & ~is_dog], hook_name="resid_post.0"
    )
    before = read(tiny_lm, tokens)
    with steer(tiny_lm, sae, {9: 5.0}, when=Condition(trigger, 0.0)):
        after = read(tiny_lm, tokens)
    assert is_dog.any()
    assert torch.equal((after != before).any(-1), is_dog)


CONDITIONS = [
    {"scope": "token"},
    {"scope": "token", "release": 0.02},
    {"scope": "text", "statistic": "fraction"},
    {"scope": "text", "statistic": "mean"},
    {"scope": "token_in_text", "statistic": "mean", "release": 0.01},
]


def between(model: LanguageModel, trigger: LatentTrigger, settings: dict[str, Any]) -> float:
    """A threshold that some of the prompts meet and some do not, near neither's figure."""
    tokens = model.tokenize(PROMPTS)
    x = read(model, tokens)
    scores = trigger.scores(x.flatten(0, 1)).view(x.shape[:2]).masked_fill(~tokens.content, 0.0)
    if settings["scope"] == "token":
        figures = scores[tokens.content]
    elif settings["statistic"] == "mean":
        figures = scores.sum(1) / tokens.content.sum(1)
    else:
        figures = (scores > 0.05).sum(1) / tokens.content.sum(1)
    ordered = figures.unique()
    middle = len(ordered) // 2
    return float(ordered[middle - 1 : middle + 1].mean())


def generated(model: LanguageModel, prompts: list[str], **options: Any) -> Tensor:
    batch = model.tokenize(prompts)
    ids, mask = batch.ids.clone(), batch.mask.clone()
    for i, n in enumerate(mask.sum(1).tolist()):
        ids[i], mask[i] = ids[i].roll(-n), mask[i].roll(-n)
    hf: Any = model.hf
    with torch.no_grad():
        out: Tensor = hf.generate(
            input_ids=ids,
            attention_mask=mask.long(),
            max_new_tokens=12,
            min_new_tokens=12,
            do_sample=False,
            **options,
        )
    return out[:, ids.shape[1] :]


@pytest.mark.parametrize("settings", CONDITIONS)
@pytest.mark.parametrize("beams", [1, 3])
def test_a_running_condition_decides_alike_with_and_without_cache_in_beams_and_batches(
    tiny_lm: LanguageModel, sae: SAE, beams: int, settings: dict[str, Any]
) -> None:
    trigger = LatentTrigger(sae, range(0, 256, 5))  # fires on a part of the tokens
    threshold = between(tiny_lm, trigger, settings)
    when = Condition(trigger, threshold, level=0.05, **settings)
    with intervene(tiny_lm, [Request(Add({9: 25.0}), sae=sae, when=when)]) as (probe,):
        cached = generated(tiny_lm, PROMPTS, num_beams=beams, use_cache=True)
        fired = probe.summary().fired
        uncached = generated(tiny_lm, PROMPTS, num_beams=beams, use_cache=False)
        alone = [generated(tiny_lm, [p], num_beams=beams, use_cache=True) for p in PROMPTS]
    assert torch.equal(cached, uncached)
    assert torch.equal(cached, torch.cat(alone))
    assert fired is not None
    assert 0 < fired.n_tokens_met < fired.n_tokens
    assert not torch.equal(cached, generated(tiny_lm, PROMPTS, num_beams=beams, use_cache=True))


def test_hysteresis_holds_until_the_score_falls_below_the_release(sae: SAE) -> None:
    scores = torch.tensor([[0.0, 3.0, 1.5, 1.2, 0.5, 1.5, 2.5, 1.5]])
    condition = Condition(LatentTrigger(sae, [1]), 2.0, release=1.0)
    whole = Judge(condition)(scores, torch.ones(1, 8, dtype=torch.bool), made(range(8), 8))
    assert whole.tolist() == [[False, True, True, True, False, False, True, True]]
    stepwise = Judge(condition)
    found = [stepwise(scores[:, :2], torch.ones(1, 2, dtype=torch.bool), made(range(2), 2))]
    for i in range(2, 8):
        one = torch.ones(1, 1, dtype=torch.bool)
        found.append(stepwise(scores[:, i : i + 1], one, made([i], 2, rows=1)))
    assert torch.equal(torch.cat(found, 1), whole)


def test_the_running_fraction_turns_on_in_the_middle_of_an_answer(sae: SAE) -> None:
    scores = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]])  # four of prompt, three generated
    condition = Condition(LatentTrigger(sae, [1]), 0.45, scope="text", statistic="fraction")
    found = Judge(condition)(scores, torch.ones(1, 7, dtype=torch.bool), made(range(7), 4))
    # 1/4 in the prompt; 2/5, 3/6, 3/7 after it
    assert found.tolist() == [[False, False, False, False, False, True, False]]


def test_beams_carry_their_own_past_when_rows_are_exchanged(sae: SAE) -> None:
    condition = Condition(LatentTrigger(sae, [1]), 0.45, scope="text", statistic="fraction")
    judge = Judge(condition)
    scores = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    ones = torch.ones(2, 2, dtype=torch.bool)
    first = made(range(2), 2, rows=2, after=[b"high", b"low"])
    assert judge(scores, ones, first).tolist() == [[True, True], [False, False]]
    second = made([2], 2, rows=3, before=[b"low", b"high", b"high"], after=[b"a", b"b", b"c"])
    step = torch.zeros(3, 1)
    assert judge(step, ones[:1, :1].expand(3, 1), second).tolist() == [[False], [True], [True]]


def test_a_cache_from_before_the_block_is_refused(sae: SAE) -> None:
    condition = Condition(LatentTrigger(sae, [1]), 0.5, scope="text")
    one = torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ConfigError, match="before the prompt is read"):
        Judge(condition)(torch.zeros(1, 1), one, made([4], 4))


def made(
    columns: Any, n_prompt: int, *, rows: int = 1, before: Any = None, after: Any = None
) -> ForwardPass:
    """A pass over some columns of a text with so many tokens of prompt."""
    place = torch.tensor(list(columns)).expand(rows, -1)
    true = torch.ones_like(place, dtype=torch.bool)
    length = torch.full((rows,), n_prompt)
    names = None if after is None else (before or [], after)
    return ForwardPass(
        1, None, true, true, place, place >= n_prompt, length, length - 1, int(place[0, 0]),
        lambda: names,
    )  # fmt: skip


def test_conditions_that_cannot_work_are_refused(tiny_lm: LanguageModel, sae: SAE) -> None:
    trigger = LatentTrigger(sae, [1])
    with pytest.raises(ConfigError, match="released"):
        Condition(trigger, 1.0, release=2.0)
    with pytest.raises(ConfigError, match="sentence"):
        Condition(trigger, 1.0, scope="sentence")  # type: ignore[arg-type]
    late = Condition(LatentTrigger(sae, [1], hook_name="resid_post.3"), 1.0)
    with (
        pytest.raises(ConfigError, match="comes after the edit"),
        ablate(tiny_lm, sae, [1], when=late),
    ):
        pass
    narrow = Condition(ProbeTrigger(torch.ones(3)), 0.0)
    with pytest.raises(ShapeError, match="3 weights"), ablate(tiny_lm, sae, [1], when=narrow):
        pass
