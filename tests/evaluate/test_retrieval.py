"""Retrieval has known ends: halves that say the same are found, and a constant finds nothing."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from sklearn.metrics import label_ranking_average_precision_score

import saetools as st
from saetools.evaluate import EvaluationReport, evaluate
from saetools.evaluate.metrics.retrieval import halves, ranks
from saetools.models.base import TextEncoder
from saetools.sae import SAE
from saetools.store import ActivationStore

HOOK = "blocks.0.hook_resid_post"
N_DOCS = 40
# Document i says word i four times, so its halves have one embedding.
TEXTS = [" ".join([str(i)] * 4) for i in range(N_DOCS)]
SaeMaker = Callable[..., SAE]


@pytest.fixture(scope="module")
def model(planted_encoder: Callable[[torch.Tensor], TextEncoder]) -> TextEncoder:
    return planted_encoder(torch.randn(N_DOCS, 16, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def store(
    model: TextEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ActivationStore]:
    path = tmp_path_factory.mktemp("retrieval") / "acts.h5"
    with st.harvest(
        model, TEXTS, hook_name=HOOK, out=path, dtype="float32", held_out_fraction=0.5
    ) as store:
        yield store


def measured(sae: SAE, model: TextEncoder, store: ActivationStore) -> EvaluationReport:
    return evaluate(sae, store, model=model, corpus=TEXTS, metrics=["retrieval"], split="all")


def test_a_perfect_sae_finds_every_half(
    model: TextEncoder, store: ActivationStore, identity_sae: SaeMaker
) -> None:
    found = measured(identity_sae(16), model, store).values
    assert found["retrieval_mrr_clean"] == found["retrieval_mrr_spliced"] == 1.0
    assert found["retrieval_recall10_spliced"] == 1.0
    assert found["retrieval_recovered"] == pytest.approx(1.0)


def test_a_constant_finds_nothing_and_is_given_no_luck(
    model: TextEncoder, store: ActivationStore, constant_sae: SaeMaker
) -> None:
    found = measured(constant_sae(torch.ones(16)), model, store).values
    assert found["retrieval_mrr_spliced"] == pytest.approx(2 / (N_DOCS + 1))  # all tie
    assert found["retrieval_mrr_mean"] == pytest.approx(2 / (N_DOCS + 1))
    assert found["retrieval_recall10_spliced"] == 0.0
    assert found["retrieval_recovered"] == pytest.approx(0.0, abs=1e-9)


def test_a_coarse_sae_lies_between(
    model: TextEncoder, store: ActivationStore, identity_sae: SaeMaker
) -> None:
    # Halves are equal, so even a coarse reconstruction keeps them nearest; words must collide.
    sae = identity_sae(16, k=1)
    with torch.no_grad():
        sae.W_enc_rows[4:16].zero_()
        sae.W_enc_rows[20:].zero_()
    report = measured(sae, model, store)
    assert 2 / (N_DOCS + 1) < report.values["retrieval_mrr_spliced"] < 1.0
    assert 0 < report.values["retrieval_recovered"] < 1
    assert 0 < report.stderr["retrieval_mrr_spliced"] < 0.2


def test_ranks_are_scipys_and_the_mrr_is_scikit_learns() -> None:
    g = torch.Generator().manual_seed(1)
    asking = torch.randn(1500, 6, generator=g).double()  # more than one block
    answers = asking + torch.randn(1500, 6, generator=g)
    found = ranks(asking, answers)
    unit = torch.nn.functional.normalize
    table = (unit(asking, dim=1) @ unit(answers, dim=1).T).numpy()
    expected = rankdata(-table, axis=1)[np.arange(1500), np.arange(1500)]
    assert np.allclose(found, expected)
    mrr = label_ranking_average_precision_score(np.eye(1500, dtype=int), table)
    assert (1 / found).mean() == pytest.approx(mrr)


def test_documents_are_cut_at_their_middle_word_or_token() -> None:
    assert halves("one two three") == ("one", "two three")
    assert halves((4, 5, 6, 7)) == ((4, 5), (6, 7))
    assert halves("alone") is None
    assert halves((3,)) is None


def test_too_few_documents_are_left_out_with_the_reason(
    model: TextEncoder, store: ActivationStore, identity_sae: SaeMaker
) -> None:
    report = evaluate(identity_sae(16), store, model=model, corpus=TEXTS, n_docs=5)
    assert "needs 12 documents of at least two words and found 5" in report.skipped["retrieval"]
