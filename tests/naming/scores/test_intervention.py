"""A latent that causes what its name says scores 1, one that only goes along with it scores 0."""

import numpy as np
import pytest
import torch

import saetools as st
from saetools.errors import ConfigError
from saetools.naming import Name
from saetools.naming.scores import EvidenceConfig, score_names
from saetools.naming.scores.scorers.intervention import matched_latents, wins
from saetools.sae import build_sae

WORDS = ("dog", "tree", "water", "house", "sun", "garden", "friend", "story")
_FILLER = ("a", "the", "and", "of", "to", "in", "was", "it", "on", "at")
_SILENT, _SAYS = slice(32, 64), slice(0, 32)  # dimensions that the output reads, and does not
_N = len(WORDS)
SETTINGS = {"intervention": {"n_texts": 6, "n_tokens": 16, "n_matched": 5}}


def _toy_language_model():
    """Every word lies in dimensions that the output ignores; dimension j says word j."""
    model = st.load_model("tiny")
    ids = [model.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in WORDS]
    assert all(len(i) == 1 for i in ids)
    with torch.no_grad():
        for layer in model.hf.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embedding = model.hf.model.embed_tokens.weight
        embedding[:, _SAYS] = 0
        embedding /= embedding.norm(dim=1, keepdim=True).clamp_min(1e-6)
        head = model.hf.lm_head.weight
        head.zero_()
        for j, (token,) in enumerate(ids):
            head[token, j] = 10.0
    return model, [token for (token,) in ids]


def _toy_sae(model, ids):
    """Latent j reads word j and says it; latent j + 8 reads word j and says nothing."""
    sae = build_sae("topk", d_in=64, n_latents=2 * _N, k=2 * _N)
    sae.meta["hook_name"] = "blocks.1.hook_resid_post"
    words = model.hf.model.embed_tokens.weight.detach()[ids]
    with torch.no_grad():
        sae.b_dec.zero_()
        sae.b_enc.fill_(-0.75)
        sae.W_enc_rows.copy_(torch.cat([words, words]) * 2)
        sae.W_dec.zero_()
        for j in range(_N):
            sae.W_dec[j, j] = 1.0
            sae.W_dec[_N + j, 32 + j] = 1.0
    return sae


@pytest.fixture(scope="module")
def world(fake_index):
    """A language model, an SAE in it, and an index of what its latents do."""
    model, ids = _toy_language_model()
    rng = np.random.default_rng(0)
    documents, acts = [], []
    for _ in range(60):
        words = rng.choice(_FILLER, size=20).tolist()
        for at in rng.choice(20, size=5, replace=False):
            words[at] = str(rng.choice(WORDS))
        rows = np.zeros((20, 2 * _N), dtype=np.float32)
        for i, word in enumerate(words):
            if word in WORDS:
                rows[i, [WORDS.index(word), WORDS.index(word) + _N]] = 1.25
        documents.append(words)
        acts.append(rows)
    held = [i % 2 == 0 for i in range(60)]
    return model, _toy_sae(model, ids), fake_index(documents, [None] * 60, held, acts)


@pytest.fixture(scope="module")
def table(world):
    model, sae, index = world
    names = [
        Name(j, f"{WORDS[j % _N]} {j}", 1.0, "", "test", "word", (WORDS[j % _N],))
        for j in range(2 * _N)
    ]
    return score_names(
        index, names, scorers=["intervention"], model=model, sae=sae, settings=SETTINGS
    )


@pytest.mark.parametrize("j", range(_N))
def test_a_causal_latent_scores_one_and_a_correlated_one_does_not(table, j):
    cause, goes_along = table.of(j, "intervention"), table.of(j + _N, "intervention")
    assert cause.value >= 0.95
    assert 0.5 < cause.low < 0.9  # five matched latents are not many
    assert goes_along.value <= 0.1
    assert cause.details["flipped"] >= 0.95  # interchange accuracy of the card
    assert goes_along.details["flipped"] <= 0.1


def test_adding_raises_and_ablating_lowers_what_the_name_says(table):
    details = table.of(0, "intervention").details
    assert details["add_difference_low"] > 0.5
    assert details["ablate_difference_low"] > 0.5
    assert details["ablate_score"] >= 0.95
    idle = table.of(_N, "intervention").details
    assert idle["add_effect"] == pytest.approx(0, abs=1e-5)
    assert idle["ablate_effect"] == pytest.approx(0, abs=1e-5)


def test_names_of_other_latents_score_low_in_the_experiment(table):
    for j in range(_N):
        for control in (
            table.of(j, "intervention").random_name,
            table.of(j, "intervention").swapped_name,
        ):
            assert np.isnan(control) or control <= 0.1


def test_what_a_name_promotes_comes_before_its_words(world):
    model, sae, index = world
    names = [
        Name(0, "a", 1.0, "", "test", "word", ("tree",), promotes=(" dog",)),
        Name(1, "b", 1.0, "", "test", "word", ("tree",), promotes=(" dog",)),
        Name(2, "c", 1.0, "", "test", "previous", ("water",)),
    ]
    table = score_names(
        index, names, scorers=["intervention"], model=model, sae=sae, settings=SETTINGS
    )
    assert table.of(0, "intervention").value >= 0.95
    assert table.of(1, "intervention").value <= 0.1
    assert table.of(2, "intervention").status == "no claim"


def test_the_model_is_as_before(world, table):
    model, _, _ = world
    logits = model.logits(model.tokenize(["a dog and a tree"]))
    assert float(logits.abs().max()) == 0


def test_made_strings_run_through_the_model(world):
    model, sae, index = world
    names = [
        Name(0, "right", 1.0, "", "test", "word", ("dog",)),
        Name(1, "wrong", 1.0, "", "test", "word", ("sun",)),
        Name(2, "too wide", 1.0, "", "test", "word", ("water", "sun")),
    ]
    table = score_names(
        index,
        names,
        scorers=["observational"],
        model=model,
        sae=sae,
        evidence=EvidenceConfig(window=3),
        settings={"observational": {"n_substituted": 10}},
    )
    found = [table.of(j, "observational").details for j in range(3)]
    assert [d["type_2_substituted"] for d in found] == [0, 1, 0.5]
    assert [d["n_substituted"] for d in found] == [10, 10, 10]


def test_a_text_encoder_is_read_by_the_names_embedding(fake_index):
    model = st.load_model("tiny-encoder")
    vectors = torch.nn.functional.normalize(model.embed(list(WORDS)), dim=1)
    directions = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1)
    sae = build_sae("topk", d_in=64, n_latents=2 * _N, k=2)
    sae.meta["hook_name"] = "blocks.2.hook_resid_post"
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([directions, -directions]))
        sae.W_enc_rows.copy_(sae.W_dec)
    rng = np.random.default_rng(0)
    documents = [rng.choice(_FILLER, size=12).tolist() for _ in range(20)]
    acts = [(4 * (rng.random((12, 2 * _N)) < 0.2)).astype(np.float32) for _ in range(20)]
    index = fake_index(documents, [None] * 20, [i % 2 == 0 for i in range(20)], acts)
    names = [Name(j, WORDS[j % _N], 1.0, "", "test") for j in range(2 * _N)]
    table = score_names(
        index, names, scorers=["intervention"], model=model, sae=sae, settings=SETTINGS
    )
    assert all(table.of(j, "intervention").value >= 0.95 for j in range(_N))
    assert all(table.of(j + _N, "intervention").value <= 0.1 for j in range(_N))
    assert np.isnan(table.of(0, "intervention").details["flipped"])


def test_matched_latents_fire_as_often():
    rate = np.array([0.0, 0.1, 0.11, 0.09, 0.001, 0.0011, 0.5])
    drawn = matched_latents(rate, 1, n=1, rng=np.random.default_rng(0))
    assert set(drawn) <= {2, 3, 4, 5, 6}
    many = {
        latent
        for seed in range(40)
        for latent in matched_latents(np.r_[rate, np.full(8, 0.1)], 1, n=2,
                                      rng=np.random.default_rng(seed))
    }  # fmt: skip
    assert 1 not in many
    assert 0 not in many  # dead
    assert many <= set(range(7, 15)) | {2, 3}


def test_a_win_is_an_effect_that_is_there_and_larger():
    own = np.array([1.0, 0.0, -1.0, 1.0, np.nan])
    others = np.array([[0.5, -0.5, -2.0, 2.0, 0.0]])
    found = wins(own, others, 1e-3)
    assert found[0, :4].tolist() == [1, 0, 0, 0]
    assert np.isnan(found[0, 4])


def test_a_missing_model_is_named(world):
    _, sae, index = world
    with pytest.raises(ConfigError, match="needs the subject model"):
        score_names(index, [], scorers=["intervention"], sae=sae)
