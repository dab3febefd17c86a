"""A corpus of token ids or chats is read by the model it was made for, or refused."""

from dataclasses import replace

import pytest
import torch

from saetools.corpus import Corpus, Document, Message, check_tokens, for_model, render_chats
from saetools.errors import ConfigError, FormatError
from saetools.models import load_model

TEXTS = [
    f"Once upon a time there was a little {who} who did not like the {what}, and she said: no!"
    for who in ("dog", "girl", "bird", "man", "child")
    for what in ("water", "big tree", "story", "end of the day")
]


class Shuffled:
    """A tokenizer with the vocabulary of another in another order: same size, other meaning."""

    def __init__(self, tokenizer, seed=0):
        n = len(tokenizer)
        self.to = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
        self.inner = tokenizer

    def ids(self, text):
        return tuple(self.to[i] for i in self.inner(text)["input_ids"])


def _corpus(rows, *, tokenizer="tiny", texts=None):
    pairs = zip(rows, texts or [""] * len(rows), strict=True)
    return Corpus(tuple(Document(t, token_ids=tuple(r)) for r, t in pairs), "ids", tokenizer)


@pytest.fixture(scope="module")
def rows(tiny_lm):
    return [tiny_lm.tokenizer(text)["input_ids"] for text in TEXTS]


def test_ids_of_the_models_own_tokenizer_pass_whole_and_cut(tiny_lm, rows):
    assert check_tokens(_corpus(rows), tiny_lm) == 1.0
    assert check_tokens(_corpus(rows, texts=TEXTS), tiny_lm) == 1.0
    bos, eos = tiny_lm.tokenizer.bos_token_id, tiny_lm.tokenizer.eos_token_id
    packed = [token for row in rows for token in [bos, *row, eos]]
    windows = [packed[at : at + 50] for at in range(7, len(packed), 50)]
    assert check_tokens(_corpus(windows), tiny_lm) > 0.97
    assert check_tokens(_corpus(rows, tokenizer="someone/tiny"), tiny_lm) == 1.0
    assert check_tokens(_corpus(rows, tokenizer=tiny_lm.tokenizer_fingerprint), tiny_lm) == 1.0


@pytest.mark.parametrize("texts", [None, TEXTS])
def test_ids_of_a_tokenizer_of_the_same_size_are_refused(tiny_lm, texts):
    other = Shuffled(tiny_lm.tokenizer)
    with pytest.raises(ConfigError, match=r"tokenized again, \d+% of the tokens agree, and 90%"):
        check_tokens(_corpus([other.ids(text) for text in TEXTS], texts=texts), tiny_lm)


def test_a_text_beside_the_ids_tells_what_ids_alone_would_not(tiny_lm, rows):
    # Ids of whole words, each moved to another word: they spell a text that has the same ids.
    tokenizer = tiny_lm.tokenizer
    words = [i for t, i in sorted(tokenizer.get_vocab().items()) if t[0] == "Ġ" and len(t) > 4]
    spelled = [[words[(i * 7 + j * 13) % len(words)] for j in range(20)] for i in range(20)]
    with pytest.raises(ConfigError, match="0% of the tokens agree"):
        check_tokens(_corpus(spelled, texts=["something else 123"] * 20), tiny_lm)


def test_the_statement_is_compared_with_the_tokenizer(tiny_lm, rows):
    own = tiny_lm.tokenizer_fingerprint
    with pytest.raises(ConfigError, match=f"said to be of the tokenizer 'gpt2'.*{own}.*state the"):
        check_tokens(_corpus(rows, tokenizer="gpt2"), tiny_lm)
    with pytest.raises(ConfigError, match="0123456789abcdef"):
        check_tokens(_corpus(rows, tokenizer="0123456789abcdef"), tiny_lm)
    with pytest.raises(ConfigError, match=f"does not say whose.*{own}"):
        check_tokens(_corpus(rows, tokenizer=None), tiny_lm)


@pytest.mark.parametrize("token", [-1, 10_000])
def test_an_id_outside_the_vocabulary_is_refused(tiny_lm, rows, token):
    size = len(tiny_lm.tokenizer)
    with pytest.raises(ConfigError, match=rf"document 1 .*token id {token}; .*0 to {size - 1}"):
        check_tokens(_corpus([rows[0], [*rows[1], token]]), tiny_lm)


def test_a_corpus_that_mixes_texts_and_ids_is_refused(tiny_lm, rows):
    mixed = Corpus((Document("", token_ids=tuple(rows[0])), Document("text")), "mixed", "tiny")
    with pytest.raises(FormatError, match="of the 2 documents of 'mixed' 1 have no token ids"):
        for_model(mixed, tiny_lm)


def test_ids_are_spelled_out_and_keep_their_fingerprint(tiny_lm, rows):
    corpus = _corpus(rows)
    ready = for_model(corpus, tiny_lm)
    assert [d.text for d in ready] == TEXTS
    assert [d.content for d in ready] == [tuple(row) for row in rows]
    assert ready.fingerprint == corpus.fingerprint
    assert for_model(ready, tiny_lm) == ready
    other = replace(corpus[0], token_ids=(*corpus[0].token_ids, 5))
    assert Corpus((other, *corpus[1:]), "ids").fingerprint != corpus.fingerprint
    assert Corpus((Document("1,2"),), "x").fingerprint != _corpus([[1, 2]]).fingerprint


def test_a_corpus_of_texts_is_left_alone(tiny_lm):
    corpus = Corpus((Document("a"), Document("b")), "texts")
    assert for_model(corpus, tiny_lm) is corpus


TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
)


@pytest.fixture
def chat_model():
    model = load_model("tiny")
    model.tokenizer.chat_template = TEMPLATE
    return model


def _chat(*turns):
    return Document("plain", messages=tuple(Message(*turn) for turn in turns))


def test_a_chat_gets_the_template_of_the_tokenizer(chat_model):
    corpus = Corpus((_chat(("user", "hi"), ("assistant", "yes")), Document("text")), "chats")
    ready = for_model(corpus, chat_model)
    assert [d.text for d in ready] == ["<user>hi</user><assistant>yes</assistant>", "text"]
    assert for_model(ready, chat_model) == ready
    assert ready.fingerprint != corpus.fingerprint


def test_a_tokenizer_without_template_and_a_chat_it_refuses_are_said(tiny_lm, chat_model):
    corpus = Corpus((_chat(("user", "hi")), _chat(("user", "hi"), ("tool", "5"))), "chats")
    with pytest.raises(ConfigError, match=r"has no chat template.*chat_template: plain"):
        render_chats(corpus, tiny_lm.tokenizer)
    with pytest.raises(FormatError, match=r"document 1 .*refuses it \(no tools\).*user, tool"):
        render_chats(corpus, chat_model.tokenizer)
