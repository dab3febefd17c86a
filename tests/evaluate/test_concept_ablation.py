"""Concept ablation on planted directions: what is removed, what is kept, and what is said of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.metrics import roc_auc_score

import saetools as st
from saetools.corpus import Corpus, Document
from saetools.errors import ConfigError, FormatError, UnknownNameError
from saetools.evaluate import ConceptAblationConfig, ConceptAblationReport, concept_ablation
from saetools.evaluate.ablation.choose import Ranking, auroc_by_latent, choose_latents
from saetools.evaluate.ablation.report import ProbeRow
from saetools.evaluate.ablation.sample import draw_sample, eligible_docs
from saetools.evaluate.ablation.verdict import outcome
from saetools.models.base import TextEncoder
from saetools.sae import SAE
from saetools.store import ActivationStore

HOOK = "blocks.0.hook_resid_post"
D, N_WORDS = 12, 40
SETTINGS = ConceptAblationConfig(n_latents=1, n_docs=240, n_draws=200)


class World(NamedTuple):
    """Documents of random words; word w + 40 is word w with the concept's direction added."""

    model: TextEncoder
    corpus: Corpus
    store: ActivationStore


def plant(encoder: Callable[..., TextEncoder], folder: Path, direction: torch.Tensor) -> World:
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(N_WORDS, D, generator=generator)
    words[:, :2] = 0  # the first two coordinates are the concept's alone
    model = encoder(torch.cat([words, words + direction]))
    rng = np.random.default_rng(0)
    documents = []
    for i in range(400):
        label = ["concept", "red", "green", "blue"][i % 4]
        chosen = rng.integers(N_WORDS, size=8) + N_WORDS * (label == "concept") * (
            rng.random(8) < 0.3
        )
        documents.append(Document(" ".join(map(str, chosen)), label))
    corpus = Corpus(tuple(documents), "planted")
    store = st.harvest(
        model, corpus, hook_name=HOOK, out=folder / "acts.h5", dtype="float32",
        held_out_fraction=0.4,
    )  # fmt: skip
    return World(model, corpus, store)


@pytest.fixture(scope="module")
def one_way(
    planted_encoder: Callable[..., TextEncoder], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The concept is coordinate 0, and nothing else."""
    world = plant(planted_encoder, tmp_path_factory.mktemp("one"), 4.0 * torch.eye(D)[0])
    yield world
    world.store.close()


@pytest.fixture(scope="module")
def erased(one_way: World, identity_sae: Callable[..., SAE]) -> ConceptAblationReport:
    return concept_ablation(
        one_way.model, identity_sae(D), one_way.corpus, "concept",
        store=one_way.store, config=SETTINGS,
    )  # fmt: skip


def test_the_latent_that_is_the_direction_is_chosen(erased: ConceptAblationReport) -> None:
    assert erased.concept_latents == (0,)
    assert erased.control_latents[0] not in (0, 1, D, D + 1)
    chosen, control = erased.latents
    assert chosen.auroc_train > 0.9
    assert 0.05 < chosen.firing_rate < 0.12  # 30 % of the tokens of a quarter of the documents
    assert abs(control.auroc_train - 0.5) <= 0.15
    assert control.matched_to == 0


@pytest.mark.parametrize("place", ["hook", "final"])
def test_ablating_the_only_direction_leaves_chance_and_the_control_keeps_it(
    erased: ConceptAblationReport, place: str
) -> None:
    assert erased.row("clean", place, "auroc").value > 0.9
    assert erased.row("control", place, "auroc").value > 0.9
    ablated = erased.row("ablated", place, "auroc")
    assert ablated.low <= 0.5 <= ablated.high
    assert abs(ablated.value - 0.5) < 0.15
    assert erased.row("ablated", place, "auroc_beyond_control").low > 0.2
    assert erased.row("ablated", place, "balanced_accuracy").value < 0.65


def test_documents_without_the_latent_do_not_move(erased: ConceptAblationReport) -> None:
    for place in ("hook", "final"):
        assert erased.row("ablated", place, "cosine_other").value == pytest.approx(1.0, abs=1e-9)
        assert erased.row("ablated", place, "cosine_concept").value < 0.95


def test_the_verdict_says_removed_and_whose_effect_it_is(erased: ConceptAblationReport) -> None:
    assert "no better than chance" in erased.verdict
    assert "belongs to the chosen latents" in erased.verdict
    assert str(erased.row("ablated", "final", "auroc")) in erased.verdict


def test_a_concept_written_twice_is_still_read_by_a_fresh_probe_though_not_by_the_old_one(
    planted_encoder: Callable[..., TextEncoder], identity_sae: Callable[..., SAE], tmp_path: Path
) -> None:
    direction = 4.0 * torch.eye(D)[0] + 1.5 * torch.eye(D)[1]
    world = plant(planted_encoder, tmp_path, direction)
    report = concept_ablation(
        world.model, identity_sae(D), world.corpus, "concept", store=world.store, config=SETTINGS
    )
    assert report.row("ablated", "final", "auroc").value > 0.9
    assert report.row("ablated", "final", "auroc").low > 0.5
    assert (
        report.row("ablated", "final", "transfer_balanced_accuracy").value
        < report.row("ablated", "final", "balanced_accuracy").value
    )
    assert "no better than chance" not in report.verdict
    world.store.close()


def test_an_index_may_rank_the_latents(one_way: World, identity_sae: Callable[..., SAE]) -> None:
    class Index:
        labels = ("blue", "concept")
        auroc_train = np.full((2 * D, 2), 0.5)
        firing_rate = np.full(2 * D, 0.05)

    Index.auroc_train[17, 1] = 0.8
    report = concept_ablation(
        one_way.model, identity_sae(D), one_way.corpus, "concept",
        store=one_way.store, index=Index(), config=SETTINGS,
    )  # fmt: skip
    assert report.concept_latents == (17,)
    assert report.row("ablated", "hook", "auroc").value > 0.9


def test_the_same_seed_gives_the_same_report(
    one_way: World, identity_sae: Callable[..., SAE], erased: ConceptAblationReport
) -> None:
    again = concept_ablation(
        one_way.model, identity_sae(D), one_way.corpus, "concept",
        store=one_way.store, config=SETTINGS,
    )  # fmt: skip
    assert again.rows == erased.rows


def test_saving_and_loading_keeps_the_report(erased: ConceptAblationReport, tmp_path: Path) -> None:
    path = erased.save(tmp_path / "ablation.json")
    assert ConceptAblationReport.load(path) == erased
    path.write_text('{"format": "saetools-evaluation/1"}')
    with pytest.raises(FormatError, match="saetools-concept-ablation/1"):
        ConceptAblationReport.load(path)
    assert erased.verdict.split("'")[0] in erased._repr_html_()
    assert erased.table().row_count == len({(row.place, row.metric) for row in erased.rows})


def test_an_unknown_label_is_answered_with_the_nearest(
    one_way: World, identity_sae: Callable[..., SAE]
) -> None:
    with pytest.raises(UnknownNameError, match="concept"):
        concept_ablation(
            one_way.model, identity_sae(D), one_way.corpus, "concpet", store=one_way.store
        )


def test_auroc_by_latent_agrees_with_scikit_learn_ties_included() -> None:
    rng = np.random.default_rng(0)
    table = np.round(rng.random((200, 30)), 1) * (rng.random((200, 30)) < 0.4)
    table[:, 3] = 0.0
    positive = rng.random(200) < 0.2
    found = auroc_by_latent(sparse.csc_matrix(table), positive)
    expected = [roc_auc_score(positive, table[:, i]) for i in range(30)]
    assert found == pytest.approx(expected, abs=1e-12)
    assert found[3] == 0.5


def test_frequent_latents_are_left_alone_and_controls_fire_as_often() -> None:
    rng = np.random.default_rng(1)
    rate = 10 ** rng.uniform(-4, -0.5, size=500)
    auroc = np.full(500, 0.5)
    auroc[:4] = 0.9, 0.8, 0.7, 0.95
    rate[:4] = 1e-3, 1e-2, 1e-1, 0.5
    chosen = choose_latents(
        Ranking(auroc, rate), concept="x", n_latents=3, max_firing_rate=0.2, seed=0
    )
    assert [c.latent for c in chosen if c.role == "concept"] == [0, 1, 2]
    controls = [c for c in chosen if c.role == "control"]
    assert len({c.latent for c in controls}) == 3
    for control in controls:
        assert control.latent > 3
        assert abs(np.log10(control.firing_rate / rate[control.matched_to])) < 0.2


def test_a_concept_without_a_latent_is_refused() -> None:
    ranking = Ranking(np.full(9, 0.5), np.full(9, 0.01))
    with pytest.raises(ConfigError, match="no latent tells 'x'"):
        choose_latents(ranking, concept="x", n_latents=3, max_firing_rate=0.2, seed=0)


def test_the_sample_keeps_the_split_and_the_concept() -> None:
    labels = [["a", "b", "c", None][i % 4] for i in range(1000)]
    held_out = np.arange(1000) % 10 == 3
    held_out[::40] = True  # some of label a
    parts = eligible_docs(labels, held_out, np.arange(1000), concept="a")
    sample = draw_sample(parts, labels, n_docs=300, seed=0)
    assert len(np.unique(sample.docs)) == len(sample.docs) == 550  # 250 of the concept, 300 others
    assert sample.concept.sum() == 250
    assert np.array_equal(sample.held_out, held_out[sample.docs])
    assert set(sample.other_labels) == {"b", "c"}
    assert (sample.label[sample.concept] == "a").all()


def test_a_split_without_the_concept_is_refused() -> None:
    labels = ["a", "b"] * 20
    with pytest.raises(ConfigError, match="concept_held_out 0"):
        eligible_docs(labels, np.zeros(40, dtype=bool), np.arange(40), concept="a")


@pytest.mark.parametrize(
    ("clean", "ablated", "drop", "expected"),
    [
        ((0.95, 0.9, 0.99), (0.94, 0.88, 0.98), (0.01, -0.02, 0.04), "kept"),
        ((0.95, 0.9, 0.99), (0.75, 0.65, 0.85), (0.2, 0.1, 0.3), "reduced"),
        ((0.95, 0.9, 0.99), (0.52, 0.44, 0.60), (0.43, 0.3, 0.5), "removed"),
        ((0.95, 0.6, 0.99), (0.60, 0.40, 0.80), (0.35, 0.1, 0.5), "inconclusive"),
        ((0.55, 0.45, 0.66), (0.50, 0.40, 0.60), (0.05, -0.1, 0.2), "no_baseline"),
    ],
)
def test_the_interval_decides_the_outcome(
    clean: tuple[float, ...], ablated: tuple[float, ...], drop: tuple[float, ...], expected: str
) -> None:
    rows = (ProbeRow("ablated", "final", "auroc", *figures) for figures in (clean, ablated, drop))
    assert outcome(*rows) == expected
