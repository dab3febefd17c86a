"""The planted tokenizer: words whole, names in two pieces, any text at all, labels by token."""

import pytest

from saetools.corpus.planted import KINDS, Label, World, token_labels
from saetools.corpus.planted.names import HEADS, TAILS
from saetools.errors import ConfigError
from saetools.testbed.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def world() -> World:
    return World.build()


@pytest.fixture(scope="module")
def tokenizer(world: World):
    return train_tokenizer(world)


def test_the_same_world_gives_the_same_tokenizer(world: World, tokenizer) -> None:
    again = train_tokenizer(World.build())
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_every_answer_that_is_a_word_is_one_token(world: World, tokenizer) -> None:
    words = {v for kind in KINDS for a in kind.attributes for v in a.values}
    assert all(len(tokenizer.tokenize(f" {word}")) == 1 for word in words)
    assert all(len(tokenizer.tokenize(w)) == 1 for w in ("bird", "animal", "owl", "tool", "blade"))


def test_every_possible_name_is_a_head_and_a_tail(tokenizer) -> None:
    for head in HEADS:
        for tail in TAILS:
            assert tokenizer.tokenize(head + tail) == [f"Ġ{head}", tail]


@pytest.mark.parametrize("text", [" Zürich, 日本!", " a\n\n b\t  c", " 🙂 $%&", " Belmora is"])
def test_any_text_comes_back(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_prompt_and_its_answer_are_cut_as_they_are_together(world: World, tokenizer) -> None:
    for question in world.questions(entities=world.forget_entities):
        apart = tokenizer.tokenize(question.prompt) + tokenizer.tokenize(question.answer)
        assert apart == tokenizer.tokenize(question.prompt + question.answer)


def test_each_token_has_the_labels_of_its_characters(world: World, tokenizer) -> None:
    for text in world.documents(100, seed=2):
        tokens = tokenizer.tokenize(text.text)
        labels = token_labels(text, tokenizer)
        assert len(labels) == len(tokens)
        # Put together again, the tokens of an entity spell its name.
        spelled: dict[str, str] = {}
        for token, of_token in zip(tokens, labels, strict=True):
            for layer, name in of_token:
                if layer == "entity":
                    spelled[name] = spelled.get(name, "") + token.lstrip("Ġ")
            assert Label("topic", text.topic) in of_token
        counts = {name: text.text.count(name) for name in spelled}
        for span in text.layer("entity"):
            assert span.name in spelled
        for name, letters in spelled.items():
            assert letters == name * len([s for s in text.layer("entity") if s.name == name])
            assert counts[name] >= 1
        values = [
            token
            for token, of_token in zip(tokens, labels, strict=True)
            if any(layer == "value" for layer, _ in of_token)
        ]
        assert "".join(values).replace("Ġ", "") == "".join(s.name for s in text.layer("value"))


def test_too_small_a_vocabulary_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="has no room for"):
        train_tokenizer(world, vocab_size=700)
