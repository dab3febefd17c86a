"""What is scored comes from held-out documents, and is what it says it is."""

import copy

import numpy as np
import pytest

from saetools.naming.scores import EvidenceConfig, ScoringContext, score_names
from saetools.naming.scores.evidence import ACTIVATING, NEAR_MISS, RANDOM, near_latents
from saetools.naming.scores.held_out import held_out_documents

CONFIG = EvidenceConfig(n_activating=40, n_silent=40, window=5)


def test_no_training_document_is_opened_or_scored(index, names):
    index.opened.clear()
    context = ScoringContext(index, evidence=CONFIG)
    for latent in range(5):
        evidence = context.contexts(latent)
        docs = set(context.held_out.doc[evidence.rows[evidence.rows >= 0]].tolist())
        assert docs
        assert not docs & set(np.flatnonzero(~index.docs.held_out).tolist())
    score_names(index, names, evidence=CONFIG)
    assert index.opened == set(np.flatnonzero(index.docs.held_out).tolist())


def test_poisoned_training_documents_change_no_score(index, names, judge):
    poisoned = copy.copy(index)
    rng = np.random.default_rng(1)
    poisoned.documents = [
        words if held else [f"poison{i}" for i in range(7)]
        for words, held in zip(index.documents, index.docs.held_out, strict=True)
    ]
    poisoned.acts = [
        rows if held else rng.random((7, index.n_latents)).astype(np.float32)
        for rows, held in zip(index.acts, index.docs.held_out, strict=True)
    ]
    scorers = ("predicate", "observational", "detection", "fuzzing", "simulation")
    one, other = (
        score_names(i, names, scorers=scorers, chat=judge(), evidence=CONFIG)
        for i in (index, poisoned)
    )
    assert repr(list(one)) == repr(list(other))
    assert any(np.isfinite(score.value) for score in one)


def test_silent_contexts_are_silent_and_activating_ones_are_not(index):
    evidence = ScoringContext(index, evidence=CONFIG).contexts(0)
    centre = evidence.acts[:, CONFIG.window]
    assert (centre[evidence.kind == ACTIVATING] > 0).all()
    assert (evidence.acts[~evidence.fires] == 0).all()
    assert len(np.unique(evidence.centre)) == len(evidence.centre)


def test_near_misses_are_where_a_neighbour_fires(index, latent):
    context = ScoringContext(index, evidence=CONFIG)
    evidence = context.contexts(latent("pen"))
    assert near_latents(index, latent("pen")) == [latent("pen_or_ink"), latent("after_the")]
    near = evidence.centre[evidence.kind == NEAR_MISS]
    fires = np.union1d(
        context.firings(latent("pen_or_ink")).row, context.firings(latent("after_the")).row
    )
    assert len(near) == 20
    assert np.isin(near, fires).all()
    assert (evidence.kind == RANDOM).sum() == 20


def test_activating_contexts_are_drawn_from_all_quantiles(index, latent):
    context = ScoringContext(index, evidence=CONFIG)
    evidence = context.contexts(latent("pen"))
    drawn = evidence.acts[evidence.fires, CONFIG.window]
    edges = np.quantile(context.firings(latent("pen")).value, np.linspace(0, 1, 11))
    counts = np.histogram(drawn, bins=edges)[0]
    assert counts.tolist() == [4] * 10


@pytest.mark.parametrize(("rule", "status"), [("dense", "dense"), ("rare", "too few contexts")])
def test_a_latent_that_cannot_be_scored_says_why(index, names, latent, rule, status):
    score = score_names(index, names, evidence=CONFIG).of(latent(rule), "predicate")
    assert score.status == status
    assert np.isnan(score.value)


def test_words_are_joined_as_the_index_joins_them():
    class Pieces:
        class docs:  # noqa: N801
            held_out = np.array([True])
            label = (None,)

        def tokens_of(self, doc):
            return [" new", " draw", "ing", ".", ")", " york"]

    held = held_out_documents(Pieces())
    assert [held.words.strings[w] for w in held.words.word] == [
        "new", "drawing", "drawing", ".", ")", "york",
    ]  # fmt: skip
    assert held.occurrence.tolist() == [0, 1, 1, 2, 3, 4]
    assert [held.words.strings[w] if w >= 0 else "" for w in held.words.next] == [
        "drawing", ".", ".", ")", "york", "",
    ]  # fmt: skip
