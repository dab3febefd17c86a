"""Every figure of an index equals what a plain loop over the store finds."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from saetools.analysis import build, coactivation, codes, index_latents, token_rows, words
from saetools.errors import ConfigError, HookNotFoundError, ShapeError
from saetools.harvest import harvest
from saetools.sae import build_sae


def _best_documents(known, latent, n):
    """(row, value) of the strongest documents of training, by a plain loop."""
    peaks = []
    for doc in np.flatnonzero(~known.store.held_out):
        rows = np.flatnonzero(known.doc == doc)
        row = rows[known.x[rows, latent].argmax()]
        if known.x[row, latent] > 0:
            peaks.append((row, known.x[row, latent]))
    return sorted(peaks, key=lambda peak: (-peak[1], peak[0]))[:n]


def test_figures_equal_those_of_the_dense_activations(known):
    index = known.index()
    active = known.x > 0
    assert np.array_equal(index.firing_rate, active.mean(0))
    np.testing.assert_allclose(index.max_act, known.x.max(0))
    means = known.x.sum(0) / np.maximum(active.sum(0), 1)
    np.testing.assert_allclose(index.mean_act, means, rtol=1e-6)
    assert index.live.tolist() == [j for j in range(12) if j != 3]
    for j in index.live:
        wanted, _ = np.histogram(known.x[active[:, j], j], bins=20, range=(0, known.x[:, j].max()))
        assert np.array_equal(index.histogram[j], wanted)


def test_top_examples_are_the_best_documents_of_training(known):
    index = known.index(n_examples=4)
    for latent in range(12):
        wanted = _best_documents(known, latent, 4)
        shown = index[latent].examples
        assert len(shown) == len(wanted)
        for context, (row, value) in zip(shown, wanted, strict=True):
            assert context.doc == known.doc[row]
            assert context.acts[context.peak] == value


def test_a_window_shows_the_tokens_and_activations_around_the_peak(known):
    index = known.index(n_examples=4)
    texts = [
        p.removeprefix("##") if p[:2] == "##" else f" {p}" for p in known.model.tokenizer.vocab
    ]
    for latent in (0, 5):
        for kind in ("top", "spread", "held_out"):
            for context in index.examples(latent, kind=kind):
                first = context.doc * 16
                peak = first + int(known.x[first : first + 16, latent].argmax())
                rows = range(max(peak - 5, first), min(peak + 6, first + 16))
                assert context.tokens == [texts[row % 97] for row in rows]
                assert context.acts == known.x[list(rows), latent].tolist()
                assert rows[context.peak] == peak
                assert context.title == f"document {context.doc}"
                assert context.label == f"label{context.doc % 3}"


def test_what_namers_see_and_what_scores_them_never_share_a_document(known):
    index = known.index(n_examples=4)
    held_out = known.store.held_out
    for latent in index.live:
        shown = index.examples(latent) + index.examples(latent, kind="spread")
        tested = index.examples(latent, kind="held_out")
        assert not any(held_out[context.doc] for context in shown)
        assert all(held_out[context.doc] for context in tested)
        assert len({context.doc for context in shown}) == len(shown)
        assert len(tested) >= 4
        strengths = [context.acts[context.peak] for context in tested]
        assert strengths == sorted(strengths, reverse=True)


def test_auroc_is_that_of_sklearn_on_each_split(known):
    index = known.index()
    pooled = known.x.reshape(90, 16, 12).max(1)
    labels = np.array(known.store.labels)
    assert index.labels == ["label0", "label1", "label2"]
    for table, docs in [
        (index.auroc_train, ~known.store.held_out),
        (index.auroc_held_out, known.store.held_out),
    ]:
        for latent in range(12):
            for column, label in enumerate(index.labels):
                wanted = roc_auc_score(labels[docs] == label, pooled[docs, latent])
                assert table[latent, column] == pytest.approx(wanted, abs=1e-6)


def test_a_label_with_few_documents_in_a_split_has_no_column(make_store, known):
    store = make_store(known.store.rows(0, 1440), doc_len=16, held_out_fraction=0.25, name="few.h5")
    assert (store.held_out.reshape(30, 3).sum(0) < 8).any()
    index = index_latents(known.sae, store, model=known.model)
    held = [sum(store.held_out[i::3]) for i in range(3)]
    assert index.labels == [f"label{i}" for i in range(3) if held[i] >= 8]


def test_the_index_does_not_depend_on_how_it_is_cut_into_parts(known, monkeypatch, tmp_path):
    whole = known.index(n_examples=3, out=tmp_path / "whole.h5")
    monkeypatch.setattr(codes, "_BLOCK", 100)
    monkeypatch.setattr(words, "_BLOCK", 50)
    monkeypatch.setattr(token_rows, "_BLOCK", 70)
    monkeypatch.setattr(coactivation, "_ENTRIES", 60)
    monkeypatch.setattr(coactivation, "_TABLE", 25)
    monkeypatch.setattr(codes.CodeLists.parts, "__kwdefaults__", {"limit": 100})
    n_parts = count_calls(monkeypatch, build, "find")
    cut = known.index(n_examples=3)
    assert len(n_parts) > 3
    for name in ("stats", "label_table", "contexts", "coactivation", "doc_tokens"):
        for field, column in vars(getattr(whole, name)).items():
            assert np.array_equal(getattr(getattr(cut, name), field), column), field
    for latent in range(12):
        for mine, wanted in zip(cut.postings(latent), whole.postings(latent), strict=True):
            assert np.array_equal(mine, wanted)
    for unit, table in whole.units.items():
        assert table.strings == cut.units[unit].strings
        assert np.array_equal(table.mass_train, cut.units[unit].mass_train)


def count_calls(monkeypatch, module, name):
    """A list that grows with each call of a function."""
    calls, function = [], getattr(module, name)

    def counted(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_the_seed_changes_the_drawn_contexts_and_nothing_else(known):
    first, again, other = known.index(seed=0), known.index(seed=0), known.index(seed=1)
    spread = [[c.doc for c in i.examples(5, kind="spread")] for i in (first, again, other)]
    assert spread[0] == spread[1] != spread[2]
    assert first[5] == other[5]


def test_nothing_is_left_beside_the_file(known, tmp_path):
    known.index(out=tmp_path / "new" / "index.h5")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["index.h5"]


def test_an_sae_of_another_width_is_refused(known):
    sae = build_sae("topk", d_in=7, n_latents=12, k=2)
    with pytest.raises(ShapeError, match=r"width 7.*width 12 at blocks\.0\.hook_resid_post"):
        index_latents(sae, known.store, model=known.model)


def test_a_store_without_the_hook_of_the_sae_is_refused(known):
    sae = build_sae("topk", d_in=12, n_latents=12, k=2, meta={"hook_name": "blocks.3.hook_mlp_out"})
    with pytest.raises(HookNotFoundError, match=r"blocks\.3\.hook_mlp_out"):
        index_latents(sae, known.store, model=known.model)


def test_senseless_settings_are_refused(known):
    with pytest.raises(ConfigError, match="n_examples=0"):
        known.index(n_examples=0)


def test_a_real_model_and_store_can_be_indexed(tiny_encoder, tmp_path):
    texts = [f"the cat number {i} sat on the mat and looked at the dog" for i in range(40)]
    store = harvest(tiny_encoder, texts, hook_name="resid_post.0", out=tmp_path / "a.h5")
    sae = build_sae("topk", d_in=store.d_in, n_latents=32, k=4)
    index = index_latents(sae, store, model=tiny_encoder)
    assert index.n_tokens == store.n_tokens
    assert index.firing_rate.sum() == pytest.approx(4, abs=0.5)
    context = index[int(index.live[0])].examples[0]
    assert "".join(context.tokens).strip() in " ".join(texts)


def test_a_model_with_another_tokenizer_is_refused(known):
    known.store.manifest["model"]["tokenizer_fingerprint"] = "a" * 16
    known.model.tokenizer_fingerprint, known.model.name = "b" * 16, "stranger"
    with pytest.raises(ConfigError, match="planted, and stranger spells them otherwise"):
        known.index()
