"""Find-my-concept: what it finds is there, and what it says of it comes from other texts."""

import json
import logging

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.metrics import roc_auc_score

from saetools.errors import ConfigError, FormatError, ShapeError, UnknownNameError
from saetools.evaluate.concept_search import (
    BEST_LATENT,
    RAW_PROBE,
    ConceptSearch,
    TextFeatures,
    find_concept,
    find_label,
    pool_features,
    search_features,
)
from saetools.evaluate.concept_search.effects import (
    auroc_of_latents,
    class_draws,
    difference_of_latents,
)
from saetools.evaluate.concept_search.rank_test import adjusted, rank_p_values
from saetools.sae import build_sae

N_LATENTS = 60


def texts_of(n=120, *, true=(), seed=0, n_latents=N_LATENTS, d_in=6, raw=0.0, share=0.5):
    """Features of n texts; latents in groups of four that fire together, `true` with the concept.

    `raw` says how much of the concept the first dimension of x has.
    """
    rng = np.random.default_rng([seed, 7])
    positive = np.arange(n) < share * n
    common = np.repeat(rng.random((n, n_latents // 4)), 4, axis=1)
    values = rng.exponential(size=(n, n_latents)) + common
    chance = np.where(np.isin(np.arange(n_latents), true) & positive[:, None], 0.9, 0.25)
    latents = values * (0.5 * rng.random((n, n_latents)) + 0.5 * common < chance)
    x = rng.normal(size=(n, d_in))
    x[:, 0] += raw * positive
    order = rng.permutation(n)
    features = TextFeatures(
        np.arange(n), x.astype(np.float32)[order], sparse.csr_matrix(latents[order]), "max"
    )
    return features, positive[order]


def halves(positive, seed=0):
    rng = np.random.default_rng([seed, 9])
    held = np.zeros(len(positive), dtype=bool)
    for side in (positive, ~positive):
        rows = rng.permutation(np.flatnonzero(side))
        held[rows[: len(rows) // 2]] = True
    return held


@pytest.fixture
def found():
    features, positive = texts_of(true=(5, 20, 33))
    return search_features(features, positive, held_out=halves(positive), names={5: "<b>sea</b>"})


def test_planted_latents_come_first_and_are_chosen(found):
    assert set(found.latents(q=0.05)) == {5, 20, 33}
    assert {row.latent for row in list(found)[:3]} == {5, 20, 33}
    assert set(found.latents(by="difference", most=2)) < {5, 20, 33}
    assert found.latents(side="down") == []
    assert found[0].auroc_low < found[0].auroc < found[0].auroc_high


def test_a_latent_that_speaks_against_a_concept_is_on_the_other_side():
    features, positive = texts_of(true=(5,))
    found = search_features(features, ~positive, held_out=halves(positive))
    assert found.latents() == []
    assert found.latents(side="down") == found.latents(side="both") == [5]
    assert found[0].auroc < 0.5
    assert found[0].difference < 0


def discoveries(true, n_draws, *, q, share=0.5):
    """Share of false discoveries, and of true latents found, in each of many draws."""
    false, power = [], []
    for seed in range(n_draws):
        features, positive = texts_of(80, true=true, seed=seed, share=share)
        table = features.latents
        found = _chosen(table, positive, q)
        false.append(len(found - set(true)) / max(len(found), 1))
        power.append(len(found & set(true)) / max(len(true), 1))
    return np.array(false), np.array(power)


def _chosen(table, positive, q):
    return set(np.flatnonzero(adjusted(rank_p_values(table.tocsc(), positive)) <= q).tolist())


@pytest.mark.parametrize(("true", "share"), [((), 0.5), ((), 0.1), ((3, 10, 18, 40), 0.5)])
def test_the_share_of_false_discoveries_stays_below_q(true, share):
    """Over 150 draws, with latents that fire together; without a true one, any find is false."""
    q = 0.1
    false, power = discoveries(true, 150, q=q, share=share)
    assert false.mean() <= q + 2 * np.sqrt(q * (1 - q) / 150)
    if true:
        assert power.mean() > 0.8


def test_the_reported_figure_is_not_the_one_that_was_chosen_by():
    """Without any concept the best of 60 latents looks good where it was chosen, and only there."""
    train, held_out, covered = [], [], []
    for seed in range(40):
        features, positive = texts_of(60, seed=seed)
        found = search_features(features, positive, held_out=halves(positive, seed), seed=seed)
        sign = 1 if found[0].auroc_train > 0.5 else -1
        train.append(sign * (found[0].auroc_train - 0.5))
        held_out.append(sign * (found[0].auroc - 0.5))
        covered.append(found[0].auroc_low <= 0.5 <= found[0].auroc_high)
    assert np.mean(train) > 0.15
    assert abs(np.mean(held_out)) < 3 * np.std(held_out) / np.sqrt(40)
    assert np.mean(covered) > 0.8


def test_it_says_so_when_the_raw_probe_beats_the_latents():
    features, positive = texts_of(200, raw=4.0)
    found = search_features(features, positive, held_out=halves(positive))
    assert found.verdict.startswith("The raw probe beats the probe of 8 latents")
    assert found.gap[1] > 0.2
    assert found.reader(RAW_PROBE).auroc > 0.95


def test_it_says_so_when_latents_beat_the_raw_probe(found):
    assert found.verdict.startswith("The probe of 8 latents beats the raw probe")
    assert found.reader(BEST_LATENT).auroc > found.reader(RAW_PROBE).auroc


def test_it_says_so_when_the_texts_cannot_tell():
    features, positive = texts_of()
    found = search_features(features, positive, held_out=halves(positive))
    assert "no difference" in found.verdict


def test_a_reader_learns_nothing_from_held_out_texts():
    """With held-out classes turned round, all readers are as wrong as they were right."""
    features, positive = texts_of(true=(5, 20), raw=2.0)
    held = halves(positive)
    right = search_features(features, positive, held_out=held)
    wrong = search_features(features, positive ^ held, held_out=held)
    assert [row.latent for row in right] == [row.latent for row in wrong]
    for a, b in zip(right.readers, wrong.readers, strict=True):
        assert a.auroc == pytest.approx(1 - b.auroc)
        np.testing.assert_array_equal(a.scores, b.scores)


def test_effects_of_sparse_latents_are_those_of_the_dense_table():
    features, positive = texts_of(true=(5,))
    table = features.latents.tocsc()
    dense = table.toarray()
    weights = class_draws(positive, seed=0, n_draws=3)
    assert (weights[:, positive].sum(1) == positive.sum()).all()
    auroc = auroc_of_latents(table, positive, weights)
    difference = difference_of_latents(table, positive, weights)
    for draw, weight in enumerate(weights):
        for latent in (0, 5, 17):
            values = dense[:, latent]
            assert auroc[draw, latent] == pytest.approx(
                roc_auc_score(positive, values, sample_weight=weight)
            )
            mean, var = zip(
                *(
                    (np.average(v, weights=w), np.cov(v, aweights=w, ddof=0))
                    for v, w in ((values[side], weight[side]) for side in (positive, ~positive))
                ),
                strict=True,
            )
            assert difference[draw, latent] == pytest.approx(
                (mean[0] - mean[1]) / np.sqrt(np.mean(var)), rel=1e-6
            )


def test_a_saved_search_is_the_same_search(found, tmp_path):
    again = ConceptSearch.load(found.save(tmp_path / "sea.json"))
    assert again.latents(q=0.2) == found.latents(q=0.2)
    assert list(again) == list(found)
    assert again.verdict == found.verdict
    assert again._repr_html_() == found._repr_html_()
    assert again.names == {5: "<b>sea</b>"}


def test_a_latent_that_parts_the_texts_wholly_can_be_saved(tmp_path):
    """Its standardised difference is infinite, which JSON has not."""
    positive = np.arange(40) < 20
    latents = sparse.csr_matrix(np.column_stack([positive * 1.0, np.ones(40)]))
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    features = TextFeatures(np.arange(40), x, latents, "max")
    found = search_features(features, positive, held_out=halves(positive))
    assert found[0].auroc == 1.0
    assert found[0].difference == np.inf
    assert ConceptSearch.load(found.save(tmp_path / "a.json"))[0] == found[0]


def test_a_file_that_is_no_search_is_refused(found, tmp_path):
    with pytest.raises(FormatError, match="no search"):
        ConceptSearch.load(tmp_path / "none.json")
    path = found.save(tmp_path / "a.json")
    content = json.loads(path.read_text())
    del content["readers"]
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError, match="readers"):
        ConceptSearch.load(path)


def test_names_stay_text_in_jupyter(found):
    page = found._repr_html_()
    assert "<b>sea</b>" not in page
    assert "&lt;b&gt;sea" in page
    assert page.count("<svg") == 1
    assert page.count("latent 5<") == 1


def test_few_texts_are_warned_of(caplog):
    features, positive = texts_of(24)
    with caplog.at_level(logging.WARNING):
        found = search_features(features, positive, held_out=halves(positive))
    assert sum(note.startswith("few texts") for note in found.notes) == 2
    assert "few texts with the concept: 6" in caplog.text
    many, positive = texts_of(60)
    assert not any(
        "few" in n for n in search_features(many, positive, held_out=halves(positive)).notes
    )


def test_too_few_texts_are_refused():
    features, positive = texts_of(8)
    with pytest.raises(ConfigError, match="texts with the concept: 2 to choose"):
        search_features(features, positive, held_out=halves(positive))


SEA = [f"the ship sails over wave {i} of the sea" for i in range(16)]
FARM = [f"a cow eats hay number {i} in the barn" for i in range(16)]


@pytest.mark.parametrize("which", ["tiny_lm", "tiny_encoder"])
def test_a_planted_direction_is_found_through_a_model(which, request):
    model = request.getfixturevalue(which)
    sae = planted_sae(model)
    found = find_concept(model, sae, positive=SEA, negative=FARM, hook_name="resid_post.1")
    assert found.latents() == [3]
    assert found.latents(side="down") == [7]
    assert found.reader(BEST_LATENT).auroc == 1.0
    assert found.n_held_out == found.n_train == (8, 8)


def planted_sae(model):
    """Latents 3 and 7 read the difference of the classes, either way; the others are silent."""
    sae = build_sae("topk", d_in=model.d_model, n_latents=12, k=12)
    x = pool_features(model, sae, [*SEA, *FARM], hook_name="resid_post.1").x
    up, down = (torch.tensor(side).mean(0) for side in (x[:16], x[16:]))
    with torch.no_grad():
        sae.W_enc_rows.zero_()
        sae.b_enc.zero_()
        for latent, sign in ((3, 1.0), (7, -1.0)):
            sae.W_enc_rows[latent] = sign * (up - down)
            sae.b_enc[latent] = -sign * (up - down) @ (up + down) / 2
    return sae


def test_max_and_mean_pooling_are_of_content_tokens(tiny_encoder):
    sae = build_sae("topk", d_in=tiny_encoder.d_model, n_latents=12, k=3)
    tokens = tiny_encoder.tokenize(SEA[:1])
    x = tiny_encoder.activations(tokens, ["resid_post.1"])["resid_post.1"][tokens.content]
    dense = sae.encode(x).dense().detach().numpy()
    for pooling, wanted in (("max", dense.max(0)), ("mean", dense.mean(0))):
        held = pool_features(tiny_encoder, sae, SEA[:1], pooling=pooling, hook_name="resid_post.1")
        np.testing.assert_allclose(held.latents.toarray()[0], wanted, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(held.x[0], x.mean(0).numpy(), rtol=1e-4, atol=1e-5)


def test_a_text_of_both_classes_is_refused_and_a_repeated_one_counts_once(tiny_encoder):
    sae = build_sae("topk", d_in=tiny_encoder.d_model, n_latents=12, k=3)
    with pytest.raises(ConfigError, match="positive and negative"):
        find_concept(tiny_encoder, sae, positive=SEA, negative=[*FARM, SEA[0]])
    with pytest.raises(ConfigError, match="not one text"):
        find_concept(tiny_encoder, sae, positive="a ship", negative=FARM)
    found = find_concept(
        tiny_encoder, sae, positive=[*SEA, *SEA[:2]], negative=FARM, hook_name="resid_post.1"
    )
    assert sum(found.n_train) + sum(found.n_held_out) == 32
    assert "2 repeated positive texts left out" in found.notes


def test_a_label_is_found_in_a_store_without_its_model(make_store):
    """Latent 0 fires in documents of label1 only; the split is that of the store."""
    rng = np.random.default_rng(0)
    doc = np.arange(1440) // 16
    x = rng.random((1440, 8)) * (rng.random((1440, 8)) < 0.3)
    x[:, 0] = (doc % 3 == 1) * (rng.random(1440) < 0.3)
    store = make_store(torch.tensor(x, dtype=torch.float32), held_out_fraction=0.4)
    sae = build_sae("topk", d_in=8, n_latents=8, k=8)
    with torch.no_grad():
        sae.W_enc_rows.copy_(torch.eye(8))
    found = find_label(sae, store, label="label1")
    assert found[0].latent == 0
    assert found.latents() == [0]
    label1 = np.arange(90) % 3 == 1
    assert found.n_held_out[0] == int((label1 & store.held_out).sum())
    assert found.n_train[0] == int((label1 & ~store.held_out).sum())
    with pytest.raises(UnknownNameError, match="label1"):
        find_label(sae, store, label="labell")
    with pytest.raises(ShapeError, match="width 6"):
        find_label(build_sae("topk", d_in=6, n_latents=8, k=8), store, label="label1")
