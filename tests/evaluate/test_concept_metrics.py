"""Metrics of concepts on planted texts, where the answer is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from saetools.corpus import LabelledTexts
from saetools.evaluate import EvaluationReport, evaluate
from saetools.evaluate.concepts.removal import N_LATENTS
from saetools.evaluate.metrics.scr import _chosen, _Direction
from saetools.models.base import TextEncoder
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore

D = 24
N_CONCEPTS = 4
Evaluate = Callable[..., EvaluationReport]


def _vectors() -> torch.Tensor:
    """Word i < 4 is concept i, word 4 + i its opposite; words 8 to 40 are noise elsewhere."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.zeros(40, D)
    for i in range(N_CONCEPTS):
        vectors[i, i], vectors[4 + i, i] = 2.0, -2.0
    vectors[8:, 8:] = torch.rand(32, D - 8, generator=generator)
    return vectors


def _texts(n: int = 400, *, opposites: bool = False, seed: int = 0) -> LabelledTexts:
    """Every concept is in half of the texts, independently; the word of it among noise words."""
    rng = np.random.default_rng(seed)
    has = rng.random((n, N_CONCEPTS)) < 0.5
    texts, labels = [], []
    for row in has:
        words = [i if told else 4 + i for i, told in enumerate(row) if told or opposites]
        words += rng.integers(8, 40, size=3).tolist()
        texts.append(" ".join(map(str, words)))
        labels.append(frozenset(f"c{i}" for i, told in enumerate(row) if told))
    return LabelledTexts(tuple(texts), tuple(labels), "planted")


def _random_sae(n_latents: int) -> SAE:
    return build_sae(
        "topk", d_in=D, n_latents=n_latents, k=4, meta={"hook_name": "blocks.0.hook_resid_post"}
    )


def _permuted(sae: SAE, order: torch.Tensor) -> SAE:
    state = sae.state_dict()
    rows = {name: state[name][order] for name in ("W_dec", "W_enc_rows", "b_enc")}
    return sae.with_tensors({**state, **rows})


@pytest.fixture
def measure(
    make_store: Callable[..., ActivationStore], planted_encoder: Callable[..., TextEncoder]
) -> Evaluate:
    """Evaluate one metric on the planted texts."""
    store = make_store(torch.randn(640, D))
    model = planted_encoder(_vectors())

    def run(sae: SAE, metric: str, labelled: LabelledTexts, **more: object) -> EvaluationReport:
        return evaluate(sae, store, model=model, metrics=[metric], labelled=[labelled], **more)  # type: ignore[arg-type]

    return run


@pytest.fixture
def true_sae(identity_sae: Callable[..., SAE]) -> SAE:
    """Latent i is concept i, latent D + i its opposite."""
    return identity_sae(D)


@pytest.fixture
def noise_sae() -> SAE:
    """An SAE that knows the noise only, in directions that concepts do not use."""
    sae = _random_sae(64)
    rows = torch.zeros(64, D)
    rows[:, 8:] = torch.nn.functional.normalize(
        torch.randn(64, D - 8, generator=torch.Generator().manual_seed(1)), dim=1
    )
    return sae.with_tensors({**sae.state_dict(), "W_dec": rows, "W_enc_rows": rows})


def test_a_concept_that_is_one_latent_is_read_from_one_latent(
    measure: Evaluate, true_sae: SAE
) -> None:
    report = measure(true_sae, "sparse_probing", _texts())
    assert report.values["probe_auroc_k1"] == 1.0
    assert report.values["probe_accuracy_k1"] == 1.0
    assert report.stderr["probe_auroc_k1"] == 0.0
    for probe in ("neurons_k1", "raw", "all_latents", "k16"):
        assert report.values[f"probe_auroc_{probe}"] > 0.99, probe
    table = report.details("sparse_probing")
    assert table is not None
    latent, concept = (table.columns.index(name) for name in ("latent", "concept"))
    assert {row[concept]: row[latent] for row in table.rows} == {
        f"c{i}": float(i) for i in range(N_CONCEPTS)
    }


def test_the_difference_of_means_reads_what_is_far_apart(measure: Evaluate, true_sae: SAE) -> None:
    """Per text the concept moves coordinate i by 2 of 4 to 7 words; noise is spread over 16."""
    found = measure(true_sae, "sparse_probing", _texts(opposites=True)).values
    assert found["probe_auroc_mean_difference"] > 0.99
    assert found["probe_accuracy_mean_difference"] > 0.97


def test_shuffled_concepts_are_read_by_chance(measure: Evaluate, true_sae: SAE) -> None:
    texts = _texts()
    order = np.random.default_rng(9).permutation(len(texts))
    shuffled = LabelledTexts(texts.texts, tuple(texts.labels[i] for i in order), "shuffled")
    probing = measure(true_sae, "sparse_probing", shuffled)
    for name in ("k1", "k5", "k16", "neurons_k5", "raw", "all_latents", "mean_difference"):
        value, error = (d[f"probe_auroc_{name}"] for d in (probing.values, probing.stderr))
        assert value == pytest.approx(0.5, abs=max(4 * error, 0.03)), name
    apart = measure(true_sae, "separability", shuffled).values
    assert apart["separability_latents"] == pytest.approx(0.0, abs=0.04)
    assert apart["separability_best_latents"] == pytest.approx(0.0, abs=0.12)
    assert measure(true_sae, "tpp", shuffled).values["tpp_5"] == pytest.approx(0.0, abs=0.06)


def test_disjoint_concepts_fall_to_chance_alone(measure: Evaluate, true_sae: SAE) -> None:
    """With its latents off a probe says one class of all texts: half right, others untouched."""
    report = measure(true_sae, "tpp", _texts(800))
    assert report.values["tpp_accuracy"] > 0.99
    for n in (2, 5, 10, 20):
        assert report.values[f"tpp_{n}"] == pytest.approx(0.5, abs=0.02), n
    table = report.details("tpp")
    assert table is not None
    others = table.columns.index("others_drop_20")
    assert all(abs(float(row[others])) < 0.02 for row in table.rows)


def test_latents_of_something_else_perturb_no_probe(measure: Evaluate, noise_sae: SAE) -> None:
    found = measure(noise_sae, "tpp", _texts(800)).values
    for n in (2, 5, 10, 20):
        assert found[f"tpp_{n}"] == pytest.approx(0.0, abs=0.02), n


def test_a_latent_that_all_concepts_share_is_no_targeted_one(measure: Evaluate) -> None:
    """Switching it off hurts every probe alike, which is the target's drop and the others' too."""
    sae = _random_sae(8)
    rows = torch.zeros(8, D)
    rows[0, :N_CONCEPTS] = 0.5
    rows[1:, -1] = 1.0
    sae = sae.with_tensors({**sae.state_dict(), "W_dec": rows, "W_enc_rows": rows})
    report = measure(sae, "tpp", _texts(800))
    table = report.details("tpp")
    assert table is not None
    own, others = (table.columns.index(f"{side}_drop_20") for side in ("own", "others"))
    assert min(float(row[own]) for row in table.rows) > 0.1
    assert min(float(row[others]) for row in table.rows) > 0.1
    assert report.values["tpp_2"] == pytest.approx(0.0, abs=0.1)


def test_the_direction_is_that_of_the_lower_biased_accuracy(
    make_store: Callable[..., ActivationStore],
    planted_encoder: Callable[..., TextEncoder],
    true_sae: SAE,
) -> None:
    """A biased probe leans on the louder concept, so it is bad at the quieter one."""
    vectors = _vectors()
    vectors[:, 1] *= 4
    store, model = make_store(torch.randn(640, D)), planted_encoder(vectors)
    for pair in (("c0", "c1"), ("c1", "c0")):
        report = evaluate(
            true_sae, store, model=model, metrics=["scr"], concept_pairs=[pair],
            labelled=[_texts(800, opposites=True)],
        )  # fmt: skip
        table = report.details("scr")
        assert table is not None
        assert table.rows[0][1:3] == ("c0", "c1"), pair
        assert report.values["scr_biased_accuracy"] < 0.7
        assert report.values["scr_2"] > 0.9


def test_equally_biased_directions_have_a_value_the_mean_of_both() -> None:
    clean, biased = np.array([0.9]), np.array([0.7])
    one, other = (
        _Direction(kept, removed, dict.fromkeys(N_LATENTS, np.array([scr])), biased, clean)
        for kept, removed, scr in (("a", "b", 0.2), ("b", "a", 0.6))
    )
    pair = _chosen([one, other], "data", 40)
    assert (pair.kept, pair.removed) == ("both", "both")
    assert pair.scr[20][0] == pytest.approx(0.4)


def test_the_true_latents_unbias_a_biased_probe(measure: Evaluate, true_sae: SAE) -> None:
    """Both sides of each concept have a latent, so two off leave the other concept alone."""
    texts = _texts(800, opposites=True)
    report = measure(true_sae, "scr", texts, concept_pairs=[("c0", "c1"), ("c2", "c3")])
    assert report.values["scr_biased_accuracy"] < 0.8
    assert report.values["scr_clean_accuracy"] > 0.98
    assert report.values["scr_2"] == pytest.approx(1.0, abs=0.05)
    table = report.details("scr")
    assert table is not None
    assert len(table.rows) == 2
    assert {table.rows[0][1], table.rows[0][2]} in ({"c0", "c1"}, {"both"})


def test_latents_of_something_else_unbias_nothing(measure: Evaluate, noise_sae: SAE) -> None:
    found = measure(noise_sae, "scr", _texts(800, opposites=True)).values
    assert found["scr_2"] == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("metric", ["sparse_probing", "separability", "scr", "tpp"])
def test_the_order_of_latents_does_not_matter(measure: Evaluate, metric: str) -> None:
    sae = _random_sae(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    texts = _texts(420, opposites=True)
    one, other = (measure(s, metric, texts).values for s in (sae, _permuted(sae, order)))
    for name, value in one.items():
        # Equal numbers of latents to choose from are drawn by place.
        if name != "separability_best_equal":
            assert other[name] == pytest.approx(value, abs=0.01), name


def test_several_data_sets_are_averaged_over_all_their_concepts(
    measure: Evaluate, true_sae: SAE, make_store: Callable[..., ActivationStore], planted_encoder
) -> None:
    sets = [_texts(200), LabelledTexts(*_texts(200, seed=1).__dict__.values())]
    store = make_store(torch.randn(640, D), name="two.h5")
    report = evaluate(
        true_sae, store, model=planted_encoder(_vectors()), metrics=["tpp"], labelled=sets
    )
    alone = [measure(true_sae, "tpp", labelled).values["tpp_20"] for labelled in sets]
    assert report.values["tpp_20"] == pytest.approx(np.mean(alone))
    assert len(report.details("tpp").rows) == 2 * N_CONCEPTS
