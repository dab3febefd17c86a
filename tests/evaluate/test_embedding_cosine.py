"""A perfect SAE keeps embeddings and neighbours; the mean vector is the floor."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

import saetools as st
from saetools.evaluate import evaluate
from saetools.evaluate.metrics.embedding_cosine import neighbour_overlap
from saetools.models.base import TextEncoder
from saetools.sae import SAE
from saetools.store import ActivationStore

HOOK = "blocks.1.hook_resid_post"
WORDS = ["dog", "girl", "house", "tree", "water", "sun", "fish", "garden", "mother", "friend"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=rng.integers(3, 12))) for _ in range(120)]


@pytest.fixture(scope="module")
def store(
    tiny_encoder: TextEncoder, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ActivationStore]:
    path = tmp_path_factory.mktemp("store") / "acts.h5"
    with st.harvest(
        tiny_encoder, texts, hook_name=HOOK, out=path, dtype="float32", held_out_fraction=0.25
    ) as store:
        yield store


def test_a_perfect_sae_keeps_embeddings_and_neighbours(
    tiny_encoder: TextEncoder,
    texts: list[str],
    store: ActivationStore,
    identity_sae: Callable[..., SAE],
) -> None:
    found = evaluate(
        identity_sae(64, hook_name=HOOK),
        store,
        model=tiny_encoder,
        corpus=texts,
        metrics=["embedding_cosine"],
    ).values
    assert found["embedding_cosine"] == pytest.approx(1.0, abs=1e-6)
    assert found["embedding_recovered"] == pytest.approx(1.0, abs=1e-4)
    assert found["neighbour_overlap"] == pytest.approx(1.0)
    assert found["embedding_cosine_mean"] < 0.99
    assert found["neighbour_overlap_mean"] < 0.9


def test_the_mean_vector_recovers_nothing(
    tiny_encoder: TextEncoder,
    texts: list[str],
    store: ActivationStore,
    constant_sae: Callable[..., SAE],
) -> None:
    mean = torch.as_tensor(store.moments(HOOK).mean, dtype=torch.float32)
    found = evaluate(
        constant_sae(mean, hook_name=HOOK),
        store,
        model=tiny_encoder,
        corpus=texts,
        metrics=["embedding_cosine"],
    ).values
    assert found["embedding_recovered"] == pytest.approx(0.0, abs=1e-4)
    assert found["embedding_cosine"] == pytest.approx(found["embedding_cosine_mean"], abs=1e-6)


def test_neighbour_overlap_counts_shared_neighbours() -> None:
    rows = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    other = torch.randn(60, 8, generator=torch.Generator().manual_seed(1))
    assert neighbour_overlap(rows, 3.0 * rows).mean() == 1.0
    # By chance 10 of 59 neighbours agree.
    assert neighbour_overlap(rows, other).mean() == pytest.approx(10 / 59, abs=0.04)
    assert np.isnan(neighbour_overlap(rows[:11], other[:11])).all()
