"""Tokens, losses and text of causal language models."""

import pytest
import torch

from saetools.errors import ConfigError
from saetools.models import LanguageModel

TEXTS = ["Once upon a time there was a little dog.", "The end."]


@pytest.mark.parametrize("fixture", ["tiny_lm", "stories", "random_gpt2"])
def test_every_row_has_one_bos_and_right_padding(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(fixture)
    bos = model.tokenizer.bos_token
    tokens = model.tokenize([*TEXTS, bos + TEXTS[0]])
    assert (tokens.ids[:, 0] == model.tokenizer.bos_token_id).all()
    assert torch.equal(tokens.ids[0], tokens.ids[2])
    lengths = tokens.mask.sum(1)
    assert torch.equal(tokens.mask, torch.arange(tokens.ids.shape[1]) < lengths[:, None])
    assert torch.equal(tokens.content.sum(1), lengths - 1)
    assert not tokens.content[:, 0].any()


def test_a_long_text_is_cut_to_ctx_len(tiny_lm: LanguageModel) -> None:
    long = "the dog and the cat " * 100
    assert tiny_lm.tokenize([long]).ids.shape == (1, 128)
    cut = tiny_lm.tokenize([long, "a"], ctx_len=10)
    assert cut.ids.shape == (2, 10)
    assert torch.equal(cut.ids[0], tiny_lm.tokenize([long]).ids[0, :10])
    with pytest.raises(ConfigError, match="ctx_len 129"):
        tiny_lm.tokenize([long], ctx_len=129)


def test_one_string_is_no_list_of_texts(tiny_lm: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="put it in a list"):
        tiny_lm.tokenize("a text")


@pytest.mark.parametrize("fixture", ["tiny_lm", "stories"])
def test_token_losses_have_the_mean_that_hugging_face_computes(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(fixture)
    tokens = model.tokenize(TEXTS)
    losses, real = model.token_losses(tokens)
    assert losses.shape == real.shape == (2, tokens.ids.shape[1] - 1)
    assert (losses[~real] == 0).all()
    with torch.no_grad():
        want = model.hf(
            input_ids=tokens.ids,
            attention_mask=tokens.mask.long(),
            labels=tokens.ids.masked_fill(~tokens.mask, -100),
        ).loss
    assert float(losses[real].mean()) == pytest.approx(float(want), abs=1e-5)
    assert model.loss(TEXTS) == pytest.approx(float(want), abs=1e-5)


def test_the_loss_does_not_depend_on_batches(tiny_lm: LanguageModel) -> None:
    texts = [*TEXTS, "a", "the little girl and the dog"]
    assert tiny_lm.loss(texts, batch_size=1) == pytest.approx(tiny_lm.loss(texts), abs=1e-5)


def test_no_token_to_predict_is_an_error(tiny_lm: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="no token to predict"):
        tiny_lm.loss([""])


def test_a_trained_model_has_its_published_loss(
    stories: LanguageModel, story_texts: list[str]
) -> None:
    assert 1.2 < stories.loss(story_texts) < 1.5


def test_a_trained_model_tells_its_documented_story(stories: LanguageModel) -> None:
    text = stories.generate("Once upon a time, there was a little girl named", 24)
    assert text.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play"
    )


def test_sampling_depends_on_the_seed_alone(tiny_lm: LanguageModel) -> None:
    state = torch.get_rng_state()
    one = tiny_lm.generate("the dog", 12, temperature=1.0, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(77)
    assert tiny_lm.generate("the dog", 12, temperature=1.0, seed=1) == one
    assert tiny_lm.generate("the dog", 12, temperature=1.0, seed=2) != one


def test_generation_stops_when_the_context_is_full(tiny_lm: LanguageModel) -> None:
    prompt = " dog" * 126
    assert tiny_lm.tokenize([prompt]).ids.shape[1] == 127
    longer = tiny_lm.generate(prompt, 50, temperature=1.0)
    assert longer.startswith(prompt)
    assert len(tiny_lm.tokenizer(longer[len(prompt) :])["input_ids"]) <= 3
    with pytest.raises(ConfigError, match="1 to 127 prompt tokens"):
        tiny_lm.generate(" dog" * 500, 5)


@pytest.mark.parametrize("bad", [{"n_tokens": 0}, {"n_tokens": 3, "temperature": -1.0}])
def test_impossible_generation_is_refused(tiny_lm: LanguageModel, bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="cannot generate"):
        tiny_lm.generate("the dog", **bad)  # type: ignore[arg-type]
