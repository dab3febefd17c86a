"""Rows of a store know what is true of them; an SAE that has a concept's latent is found out."""

import numpy as np
import pytest
import torch

from saetools.analysis.codes import CodeLists
from saetools.corpus.planted import LabelledText, World, levels_of, token_labels
from saetools.errors import ConfigError
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore, StoreWriter, TokenColumns
from saetools.testbed.concept_recovery import ConceptRecovery, FoundConcept, recover_concepts
from saetools.testbed.latent_truth import WORD, LatentTruth, latent_truths, with_words
from saetools.testbed.name_share import NameShare, name_share, wilson
from saetools.testbed.name_truth import name_truth
from saetools.testbed.tokenizer import train_tokenizer
from saetools.testbed.truth import WorldTruth, world_truth

N_DOCS = 300
WIDTH = 32
WATCHED = ("badger", "mammal", "animal")  # coordinates 0 to 2 of the planted activations


@pytest.fixture(scope="module")
def world() -> World:
    return World.build(n_entities=40)


@pytest.fixture(scope="module")
def tokenizer(world: World):
    return train_tokenizer(world)


@pytest.fixture(scope="module")
def texts(world: World) -> tuple[LabelledText, ...]:
    return world.documents(N_DOCS, seed=1)


@pytest.fixture(scope="module")
def store(texts, tokenizer, tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    """Coordinate i is 1 where level i of WATCHED holds, 3 the topic market; the rest is noise."""
    path = tmp_path_factory.mktemp("truth") / "acts.h5"
    g = torch.Generator().manual_seed(0)
    held = np.arange(N_DOCS) % 3 == 0
    blank = [""] * N_DOCS
    manifest = {"widths": {"h": WIDTH}, "dtype": "float32", "model": {}, "corpus": {}}
    with StoreWriter(path, manifest=manifest, labels=blank, titles=blank, held_out=held) as writer:
        for doc, text in enumerate(texts):
            ids = tokenizer(text.text, add_special_tokens=False)["input_ids"]
            x = 0.05 * torch.rand(len(ids), WIDTH, generator=g)
            x[:, :4] = 0.0
            for row, labels in enumerate(token_labels(text, tokenizer)):
                for i, level in enumerate(WATCHED):
                    x[row, i] += float(("concept", level) in labels)
                x[row, 3] += float(("topic", "market") in labels)
            columns = TokenColumns(
                np.array(ids, np.int32),
                np.full(len(ids), doc, np.int32),
                np.arange(len(ids), dtype=np.int32),
            )
            writer.commit({"h": x}, columns, n_docs_done=doc + 1)
        writer.finish()
    return ActivationStore.open(path)


@pytest.fixture(scope="module")
def truth(store, texts, tokenizer) -> WorldTruth:
    return world_truth(store, texts, tokenizer)


@pytest.fixture(scope="module")
def sae() -> SAE:
    """Latent i is coordinate WIDTH - 1 - i."""
    made = build_sae("topk", d_in=WIDTH, n_latents=WIDTH, k=8)
    eye = torch.eye(WIDTH).flip(0)
    with torch.no_grad():
        made.W_enc_rows.copy_(eye)
        made.W_dec.copy_(eye)
        made.b_enc.zero_()
        made.b_dec.zero_()
    return made


def test_every_row_knows_what_its_text_says(store, texts, truth, tokenizer) -> None:
    batches = list(store.stream())
    doc = np.concatenate([batch.doc for batch in batches])
    for number in (0, 7, N_DOCS - 1):
        rows = np.flatnonzero(doc == number)
        topic = truth.layers["topic"]
        assert topic.unit_of_row is not None
        (unit,) = set(topic.unit_of_row[rows].tolist())
        assert topic.names[topic.label[unit]] == texts[number].topic
        forms = truth.layers["form"]
        stated = sorted(set(forms.unit_of_row[rows].tolist()) - {-1})
        told = [span.name for span in texts[number].layer("form")]
        assert [forms.names[i] for i in forms.label[stated]] == told, "a sentence is a unit"
        values = truth.layers["value"]
        said = [values.names[i] for i in values.label[rows] if i >= 0]
        expected = [span.name for span in texts[number].layer("value")]
        assert sorted(said) == sorted(expected), "a word is judged at one of its tokens"


def test_a_name_is_judged_at_its_last_token_and_its_first_counts_neither_way(
    store, texts, truth
) -> None:
    entities = truth.layers["entity"]
    n_names = sum(len(text.layer("entity")) for text in texts)
    assert (entities.label >= 0).sum() == n_names
    assert (~entities.counted).sum() == n_names, "a name is a head and a tail"
    assert not (entities.label[~entities.counted] >= 0).any()


def test_other_texts_than_the_stores_are_refused(store, world, texts, tokenizer) -> None:
    with pytest.raises(ConfigError, match="is not text 0"):
        world_truth(store, world.documents(N_DOCS, seed=2), tokenizer)
    with pytest.raises(ConfigError, match="300 documents and 299 texts"):
        world_truth(store, texts[:-1], tokenizer)


def test_a_parent_is_on_wherever_a_child_is(truth) -> None:
    labels = truth.hierarchy()
    for child, parent in labels.parents.items():
        assert levels_of(child)[-2] == parent
        assert not (labels.column(child) & ~labels.column(parent)).any()
    assert (
        labels.column("animal").sum()
        > labels.column("mammal").sum()
        > labels.column("badger").sum()
    )


def test_planted_latents_are_found_and_no_others(store, truth, sae) -> None:
    recovery = recover_concepts(sae, store, truth, min_train=5, min_held_out=2)
    found = {(c.layer, c.name): c for c in recovery.concepts}
    badger = found["leaf", "badger"]
    assert badger.latent == WIDTH - 1
    assert badger.auroc == badger.f1 == badger.f1_train == 1.0
    assert found["topic", "market"].latent == WIDTH - 4
    assert found["topic", "market"].auroc == 1.0
    unplanted = [c.auroc for c in found.values() if c.layer == "register"]
    assert max(unplanted) < 0.7


def test_parts_of_the_dictionary_give_what_the_whole_gives(
    store, truth, sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = recover_concepts(sae, store, truth)
    monkeypatch.setattr(CodeLists.parts, "__kwdefaults__", {"limit": 500})
    assert recover_concepts(sae, store, truth) == whole


def concept(layer: str, name: str, latent: int, auroc: float = 1.0) -> FoundConcept:
    return FoundConcept(layer, name, (latent,), auroc, 1.0, 1.0, 10)


def test_names_are_right_where_they_say_the_word_and_the_control_says_what_chance_gives() -> None:
    recovery = ConceptRecovery(
        (
            concept("value", "wool", 1),
            concept("value", "silver", 2),
            concept("value", "salt", 3),
            concept("value", "rope", 4, auroc=0.6),  # not recovered
            concept("topic", "market", 5),  # no word of its own
        ),
        n_rare=0,
    )
    words = {1: ["Wool", "yarn"], 2: ["gold", "coin", "ring", "silver"], 5: ["market"]}
    truth = name_truth(recovery, words)
    assert truth.n_concepts == 3
    assert truth.n_named == 2
    assert truth.right_fraction == pytest.approx(1 / 3)  # silver is the fourth word
    assert truth.swapped_fraction == 0.0
    shifted = name_truth(recovery, {2: ["wool"], 3: ["silver"], 1: ["salt"]})
    assert shifted.right_fraction == 0.0
    assert shifted.swapped_fraction == 1.0  # each takes the name of the next


def test_what_a_latent_stands_for_is_found_from_its_firing(store, truth, sae, tokenizer) -> None:
    truths = latent_truths(sae, store, truth, min_train=5, min_held_out=2)
    badger = truths[WIDTH - 1]
    assert (badger.layer, badger.name, badger.f1, badger.auroc) == ("leaf", "badger", 1.0, 1.0)
    assert truths[WIDTH - 2].name == "mammal"
    assert truths[WIDTH - 3].name == "animal"
    assert (truths[WIDTH - 4].layer, truths[WIDTH - 4].name) == ("topic", "market")
    assert not [latent for latent in truths if latent < WIDTH - 4], "noise stands for nothing"
    # A plain word that agrees as well as a planted label does not take its place.
    worded = with_words(truth, store, tokenizer)
    assert latent_truths(sae, store, worded, min_train=5, min_held_out=2)[WIDTH - 1] == badger


def test_every_row_knows_its_plain_word(store, truth, tokenizer) -> None:
    layer = with_words(truth, store, tokenizer).layers[WORD]
    leaf = truth.layers["leaf"]
    on = leaf.label == leaf.names.index("badger")
    assert {layer.names[i].casefold() for i in layer.label[on]} == {"badger"}
    assert np.array_equal(layer.held_out, leaf.held_out)


def test_names_of_all_live_latents_are_counted_with_their_control() -> None:
    truths = {
        1: LatentTruth(1, "value", "wool", 0.9, 1.0),
        2: LatentTruth(2, "value", "silver", 0.9, 1.0),
        3: LatentTruth(3, "value", "silver", 0.8, 1.0),
        4: LatentTruth(4, "form", "question", 0.9, 1.0),  # no word says it
        5: LatentTruth(5, WORD, "the", 0.9, 1.0),
        6: LatentTruth(6, "topic", "market", 0.9, 1.0),
    }
    share = name_share({1: [" Wool"], 2: ["Silver", "wool"], 4: ["question"], 9: ["wool"]}, truths)
    planted = share["planted"]
    assert planted == NameShare(n=4, n_named=2, n_right=2, n_swapped_right=1)
    assert share["word"] == NameShare(n=1, n_named=0, n_right=0, n_swapped_right=0)
    told = planted.as_json()
    assert told["right_fraction"]["value"] == 0.5
    assert told["right_of_named"]["value"] == 1.0
    assert share["word"].as_json()["right_of_named"] == {"value": None, "low": 0.0, "high": 1.0}


@pytest.mark.parametrize(
    ("n_right", "n", "low", "high"),
    # The last is Newcombe's (1998).
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_intervals_of_shares_are_wilsons(n_right: int, n: int, low: float, high: float) -> None:
    assert wilson(n_right, n) == pytest.approx((low, high), abs=1e-4)
