"""The models that the package makes itself behave like the big ones, on any text."""

import pytest

from saetools.models import SubjectModel
from saetools.testing.tiny import tiny_encoder, tiny_lm

TEXTS = ["Once upon a time, there was a bird.", "Größe 東京 \N{DOG FACE}\n\t  x = {1: 'a'}", ""]


@pytest.mark.parametrize("model", [tiny_lm(), tiny_encoder()], ids=["lm", "encoder"])
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_lose_no_character(model: SubjectModel, text: str) -> None:
    tokens = model.tokenize([text])
    content = tokens.ids[tokens.content].tolist()
    assert model.tokenizer.decode(content, clean_up_tokenization_spaces=False) == text


def test_common_words_are_single_tokens() -> None:
    model = tiny_lm()
    tokens = model.tokenize(["a little girl and their mother"])
    words = [model.tokenizer.decode([i]) for i in tokens.ids[tokens.content]]
    assert words == ["a", " little", " girl", " and", " their", " mother"]


def test_shapes_are_as_documented() -> None:
    lm, encoder = tiny_lm(), tiny_encoder()
    assert (lm.n_layers, lm.d_model, lm.ctx_len) == (4, 64, 128)
    assert (encoder.n_layers, encoder.d_model, encoder.ctx_len) == (3, 64, 128)
    assert (lm.kind, encoder.kind) == ("language_model", "text_encoder")


def test_the_helpers_follow_their_seed() -> None:
    assert tiny_lm(4).fingerprint == tiny_lm(4).fingerprint != tiny_lm(5).fingerprint
    assert tiny_encoder(4).fingerprint != tiny_encoder(5).fingerprint
