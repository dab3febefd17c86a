"""The promises hold for a real index, in memory and from disk."""

from dataclasses import replace

import numpy as np
import pytest

from saetools.analysis import LatentIndex
from saetools.analysis.contexts import HELD_OUT
from saetools.analysis.postings import CodedLists, DocTokens
from saetools.naming import name_latents
from saetools.naming.scores import EvidenceConfig, score_names

CONFIG = EvidenceConfig(n_activating=20, n_silent=20, window=6, max_firing_rate=0.2)
RULES = ("token", "bigram", "previous", "frozen_pair", "pieces")


def test_true_names_score_high_and_others_do_not(planted, number):
    table = score_names(planted, name_latents(planted), evidence=CONFIG)
    for rule in RULES:
        score = table.of(number(rule), "predicate")
        assert score.value == 1, rule
        assert score.random_name < 0.8, rule
        assert table.of(number(rule), "observational").value > 0.99, rule
    noise = table.of(number("noise"), "predicate")
    assert noise is None or not noise.value > 0.6  # fires at random: no name is right


def test_a_label_is_held_against_the_documents_that_have_it(planted, number):
    names = name_latents(planted, namer="labels")
    score = score_names(planted, names, evidence=CONFIG).of(number("label"), "predicate")
    assert score.details["recall"] == 1
    assert score.value > 0.7


def test_what_is_saved_scores_the_same(planted, tmp_path):
    names = name_latents(planted)
    loaded = LatentIndex.load(planted.save(tmp_path / "index.h5"))
    one, other = (score_names(i, names, evidence=CONFIG) for i in (planted, loaded))
    assert repr(list(one)) == repr(list(other))


@pytest.fixture
def poisoned(planted):
    """The same index with training documents whose words and activations are garbage."""
    rng = np.random.default_rng(0)
    held, tokens = planted.docs.held_out, planted.doc_tokens
    train_row = ~np.repeat(held, np.diff(tokens.bounds))
    token = np.where(train_row, 0, tokens.token).astype(tokens.token.dtype)
    bounds = planted.lists.bounds
    coded = planted.lists.read(0, int(bounds[-1]))
    share = coded.share.copy()
    for latent in range(planted.n_latents):
        part = slice(int(bounds[latent]), int(bounds[latent + 1]))
        garbage = train_row[np.cumsum(coded.step[part], dtype=np.int64)]
        share[part][garbage] = rng.random(int(garbage.sum())).astype(np.float16) + np.float16(0.1)
    shown = planted.contexts
    return replace(
        planted,
        doc_tokens=DocTokens(tokens.bounds, token),
        lists=CodedLists(bounds, coded.step, share),
        contexts=replace(shown, token=np.where((shown.kind == HELD_OUT)[:, None], shown.token, 0)),
    )


def test_poisoned_training_documents_change_no_score(planted, poisoned):
    train = int(np.flatnonzero(~planted.docs.held_out)[0])
    assert planted.tokens_of(train) != poisoned.tokens_of(train)
    names = name_latents(planted)
    one, other = (score_names(i, names, evidence=CONFIG) for i in (planted, poisoned))
    assert repr(list(one)) == repr(list(other))
