"""A latent that points where a word points is named by it; one that points nowhere is not."""

import re

import numpy as np
import pytest
import torch

from saetools.errors import ConfigError, ShapeError
from saetools.naming import NamingContext, name_latents
from saetools.naming import nearest_words as module
from saetools.naming.namers.vocabulary import words_of_index
from saetools.naming.nearest_words import nearest_words
from saetools.naming.word_directions import cached_word_vectors, word_vectors
from saetools.sae import build_sae
from saetools.testing import naming_subject
from saetools.testing.tiny import tiny_encoder, tiny_lm

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> NamingContext:
    return naming_subject(tmp_path_factory.mktemp("subject"))


def test_planted_word_directions_are_named_and_random_ones_are_not(subject):
    names = name_latents(subject.index, namer="vocabulary", sae=subject.sae, model=subject.model)
    planted = ["ship", "wave", "sail", "fish", "salt", "cow", "barn", "hay", "pig", "milk"]
    planted += ["bus", "street", "tower", "shop", "light"]
    assert [names.get(latent).name for latent in range(15)] == planted
    assert len(names) <= 17, "33 latents point nowhere in particular; one in a hundred may pass"
    assert '"ship" (cosine' in names.get(0).rationale
    assert names.get(0).words == ("ship",)
    assert names.get(0).confidence > 0.9


def test_any_joint_space_will_do(planted, number):
    """The user's own words and vectors, as a matrix and as a function."""
    n = planted.n_latents
    sae = build_sae("topk", d_in=n, n_latents=n, k=2)
    with torch.no_grad():
        sae.W_dec.copy_(torch.eye(n))
    words = [f"concept {i}" for i in range(n)]
    matrix = np.eye(n) * 3 + 0.01
    by_matrix, by_function = (
        name_latents(planted, namer="vocabulary", sae=sae, words=words, vectors=given, chance=1.0)
        for given in (matrix, lambda asked: torch.tensor(matrix[[words.index(w) for w in asked]]))
    )
    assert by_matrix == by_function
    latent = number("bigram")
    assert by_matrix.get(latent).name == f"concept {latent}"
    assert by_matrix.get(number("dead")) is None


def test_a_hub_wins_everywhere_unless_it_is_held_back():
    rng = torch.Generator().manual_seed(0)
    hub = torch.nn.functional.normalize(torch.randn(32, generator=rng), dim=0)
    own = torch.nn.functional.normalize(torch.randn(40, 32, generator=rng), dim=1)
    directions = 0.5 * own + 0.6 * hub  # all latents share something, and the hub is that
    words = torch.cat([hub[None], own])
    plain = nearest_words(directions, words, correct=False)
    held = nearest_words(directions, words)
    assert (plain.word[:, 0] == 0).float().mean() > 0.8
    assert torch.equal(held.word[:, 0], torch.arange(1, 41))
    assert torch.equal(plain.cosine, plain.score)


def test_scores_are_those_of_the_formula_whatever_the_blocks(monkeypatch):
    rng = torch.Generator().manual_seed(1)
    latents, words = torch.randn(30, 8, generator=rng), torch.randn(25, 8, generator=rng)
    cos = torch.nn.functional.normalize(latents, dim=1) @ torch.nn.functional.normalize(words).T
    expected = (
        2 * cos
        - cos.topk(10, dim=1).values.mean(1, keepdim=True)
        - cos.topk(10, dim=0).values.mean(0)
    )
    whole = nearest_words(latents, words)
    assert torch.allclose(whole.score, expected.topk(5, dim=1).values, atol=1e-5)
    monkeypatch.setattr(module, "_BLOCK", 7)
    parts = nearest_words(latents, words)
    assert torch.equal(parts.word, whole.word)
    assert torch.allclose(parts.score, whole.score, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "reading"), [(tiny_lm(), "last"), (tiny_encoder(), "mean")], ids=["lm", "encoder"]
)
def test_a_word_is_read_at_its_own_tokens(model, reading):
    word, template = "marmalade", "We ate {word} today."
    text = template.replace("{word}", word)
    tokens = model.tokenize([text])
    x = model.activations(tokens, [HOOK])[HOOK][0][tokens.content[0]]
    cut = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    # The tokens that have a letter of the word.
    start = text.index(word)
    own = [
        i
        for i, (a, b) in enumerate(cut["offset_mapping"])
        if set(range(a, b)) & set(range(start, start + len(word)))
    ]
    assert len(own) > 1, "else last and mean are the same"
    wanted = x[own[-1]] if reading == "last" else x[own].mean(0)
    found = word_vectors(model, [word, "pie"], hook_name=HOOK, templates=(template,))
    assert torch.allclose(found.vectors[0], wanted, atol=1e-5)


def test_of_a_store_with_a_row_a_text_the_text_is_read():
    model = tiny_encoder()
    tokens = model.tokenize(["about tea"])
    wanted = model.activations(tokens, [HOOK])[HOOK][0].mean(0)
    found = word_vectors(
        model, ["tea", "coffee"], hook_name=HOOK, templates=("about {word}",), pooling="mean"
    )
    assert torch.allclose(found.vectors[0], wanted, atol=1e-5)


def test_vectors_are_measured_once(tmp_path, monkeypatch):
    model = tiny_lm()
    ask = {"hook_name": HOOK, "templates": ("a {word}",), "pooling": "token", "folder": tmp_path}
    first = cached_word_vectors(model, ["cat", "dog"], **ask)
    assert len(list(tmp_path.iterdir())) == 1

    def refuse(*_):
        raise AssertionError("the model was asked again")

    monkeypatch.setattr(type(model), "activations", refuse)
    again = cached_word_vectors(model, ["cat", "dog"], **ask)
    assert torch.equal(first.vectors, again.vectors)
    with pytest.raises(AssertionError, match="asked again"):
        cached_word_vectors(model, ["cat", "cow"], **ask)


def test_words_of_an_index_are_its_frequent_words_in_training(planted):
    words = words_of_index(planted, n_words=1000, min_count=1)
    assert "drawing" in words, "pieces are joined"
    counts = planted.units["word"]
    count = dict(zip(counts.strings, counts.background.tolist(), strict=True))
    assert [count[word] for word in words] == sorted((count[w] for w in words), reverse=True)
    assert words_of_index(planted, n_words=3) == words[:3]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"templates": ("no word",)}, ConfigError, "'no word' does not"),
        ({"templates": ()}, ConfigError, "no template"),
        ({"words": ("one",)}, ConfigError, "1 different words"),
        ({"words": "/no/such/file"}, ConfigError, "cannot read words from /no/such/file"),
        ({"words": ("a", "b"), "vectors": np.zeros((2, 3))}, ShapeError, r"\(2, 64\); got \(2, 3"),
        ({"words": ("a", "a"), "vectors": np.zeros((2, 64))}, ConfigError, "each of them once"),
    ],
)
def test_what_is_wrong_is_said(subject, fields, error, message):
    with pytest.raises(error, match=message):
        name_latents(
            subject.index, namer="vocabulary", sae=subject.sae, model=subject.model, **fields
        )


def test_an_sae_of_another_size_is_refused(subject):
    other = build_sae("topk", d_in=64, n_latents=12, k=2)
    with pytest.raises(ShapeError, match=re.escape("has 12 latents and the index 48")):
        name_latents(subject.index, namer="vocabulary", sae=other, model=subject.model)
