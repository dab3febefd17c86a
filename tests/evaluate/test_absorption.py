"""Absorption has known answers: a whole parent latent, one with a hole, and words that steal."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import saetools as st
from saetools.corpus import ConceptLabels
from saetools.errors import ConfigError, ShapeError, UnknownNameError
from saetools.evaluate import MetricContext, evaluate
from saetools.evaluate.absorption import (
    absorbed,
    hierarchy_tally,
    letters_of,
    vocabulary_words,
)
from saetools.evaluate.absorption.reading import main_latent, split_latents
from saetools.evaluate.metrics.absorption import Absorption
from saetools.models.base import Edit, LanguageModel, TokenBatch
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore
from saetools.testbed.planting import SyntheticConfig
from saetools.testbed.synthetic import HOOK, SyntheticSource
from saetools.train import train_many
from saetools.types import SparseLatents

# Two parents of twenty children each: a child is on in a fiftieth of its parent's rows.
TREES = SyntheticConfig(
    d_in=48, n_concepts=48, mean_active=1.0, n_trees=2, n_children=20, magnitude_jitter=0.0
)


def sparse(dense: Tensor) -> SparseLatents:
    indices = torch.arange(dense.shape[1]).expand(dense.shape)
    return SparseLatents(dense, indices.contiguous(), dense.shape[1])


def by_the_card(
    x: Tensor, z: Tensor, p: Tensor, W_dec: Tensor, split: list[int]
) -> tuple[list[bool], list[float]]:
    """Card 21, section 3, token by token and latent by latent."""
    p = p / p.norm()
    full, fraction = [], []
    for row, act in zip(x, z, strict=True):
        u = float(row @ p)
        a = [float(v * (d @ p)) for v, d in zip(act, W_dec, strict=True)]
        cos = [float(d @ p / d.norm()) for d in W_dec]
        on = [j for j in range(len(a)) if act[j] >= 1e-8]
        best = max(on, key=lambda j: a[j], default=None)
        full.append(
            not any(j in split for j in on)
            and best is not None
            and cos[best] >= 0.025
            and u >= 0
            and a[best] >= 0.4 * u
        )
        main = sum(a[j] for j in split)
        others = sorted(
            (a[j] for j in on if j not in split and cos[j] >= 0.1 and a[j] > 0), reverse=True
        )
        stand_in = sum(others[:3])
        if main >= u or stand_in < 0.4 * u:
            fraction.append(0.0)
        elif main <= 0:
            fraction.append(1.0)
        else:
            taken = min(stand_in, u - main)
            fraction.append(taken / (taken + main))
    return full, fraction


def test_the_formulas_are_those_of_the_card_on_random_tokens() -> None:
    g = torch.Generator().manual_seed(0)
    p = torch.randn(6, generator=g)
    W_dec = torch.randn(12, 6, generator=g) + 0.5 * p
    z = torch.rand(400, 12, generator=g) * (torch.rand(400, 12, generator=g) < 0.25)
    x = z @ W_dec + 0.3 * torch.randn(400, 6, generator=g)
    found = absorbed(x, sparse(z), probe=p, W_dec=W_dec, split=torch.tensor([2, 7]))
    full, fraction = by_the_card(x, z, p, W_dec, [2, 7])
    assert found.full.tolist() == full
    assert found.fraction.tolist() == pytest.approx(fraction, abs=1e-5)
    assert 0.05 < np.mean(full) < 0.9
    assert len({round(value, 3) for value in fraction}) > 20


@pytest.mark.parametrize(("share", "counts"), [(0.39, False), (0.41, True)])
def test_an_absorber_counts_from_two_fifths_of_the_projection(share: float, counts: bool) -> None:
    W_dec = torch.eye(3)
    x = torch.tensor([[1.0, 0.0, 1.0]])
    z = torch.tensor([[0.0, 1.0, 0.0]])
    W_dec[1] = torch.tensor([share, 0.0, 0.5])  # adds `share` of the probe's projection of 1
    found = absorbed(
        x, sparse(z), probe=torch.tensor([2.0, 0.0, 0.0]), W_dec=W_dec, split=torch.tensor([0])
    )
    assert found.full.tolist() == [counts]
    assert found.fraction.tolist() == [float(counts)]


def test_a_concept_read_by_two_latents_is_split_in_two() -> None:
    g = torch.Generator().manual_seed(0)
    z = (torch.rand(3000, 40, generator=g) < 0.1).float()
    on = ((z[:, 5] + z[:, 9]) > 0).numpy()
    assert set(split_latents(sparse(z), on, seed=0).tolist()) == {5, 9}
    assert split_latents(sparse(z), z[:, 5].bool().numpy(), seed=0).tolist() == [5]
    assert main_latent(sparse(z), z[:, 11].bool().numpy()) == 11


@pytest.fixture(scope="module")
def trees(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[SyntheticSource, ActivationStore]]:
    source = SyntheticSource(TREES, n_tokens=30_000, held_out_fraction=0.4)
    with source.write(tmp_path_factory.mktemp("trees") / "acts.h5") as store:
        yield source, store


def whole_parents(source: SyntheticSource) -> SAE:
    """Latent j is concept j, on where x has at least half of it."""
    sae = build_sae("standard", d_in=48, n_latents=48, target_l0=4, meta={"hook_name": HOOK})
    with torch.no_grad():
        sae.W_dec.copy_(source.directions)
        sae.W_enc_rows.copy_(source.directions)
        sae.b_enc.fill_(-0.3)
    return sae


def with_holes(source: SyntheticSource, *, n_parents: int) -> SAE:
    """The first parents' latents are silent where a child is on, whose latent adds the parent."""
    sae = whole_parents(source)
    names = source.names
    with torch.no_grad():
        for parent in range(n_parents):
            children = [j for j, name in enumerate(names) if name.startswith(f"parent{parent}.")]
            sae.W_enc_rows[parent] -= source.directions[children].sum(0)
            sae.W_dec[children] += source.directions[parent]
    return sae


@pytest.mark.parametrize(("n_holes", "expected"), [(0, 0.0), (1, 0.5), (2, 1.0)])
def test_a_parent_with_a_hole_is_absorbed_and_a_whole_one_is_not(
    trees: tuple[SyntheticSource, ActivationStore], n_holes: int, expected: float
) -> None:
    source, store = trees
    sae = with_holes(source, n_parents=n_holes)
    report = evaluate(sae, store, metrics=["absorption"], concepts=source.labels())
    found = report.values
    assert found["hole_rate"] == pytest.approx(expected, abs=1e-9)
    assert found["absorption_full"] == pytest.approx(expected, abs=0.01)
    assert found["absorption_fraction"] == pytest.approx(expected, abs=0.01)
    assert found["split_latents"] == 1.0
    assert found["absorption_concepts"] == 2
    assert report.stderr["hole_rate"] == pytest.approx(0.0, abs=1e-9)  # every document says so


def test_without_held_out_documents_halves_of_the_split_take_both_parts(
    trees: tuple[SyntheticSource, ActivationStore],
) -> None:
    source, store = trees
    ctx = MetricContext(with_holes(source, n_parents=1), store, HOOK, split="train")
    tally = hierarchy_tally(ctx, source.labels())
    measured = np.flatnonzero(tally.sums["items"].sum(1))
    assert not store.held_out[measured].any()
    assert len(measured) <= (len(ctx.docs) + 1) // 2
    assert tally.rate("hole", "items", seed=0)[0] == pytest.approx(0.5)


def test_a_hole_at_some_children_is_measured_with_its_uncertainty(
    trees: tuple[SyntheticSource, ActivationStore],
) -> None:
    source, store = trees
    sae = whole_parents(source)
    with torch.no_grad():
        for parent in range(2):
            children = [2 + 20 * parent + j for j in range(5)]  # of twenty
            sae.W_enc_rows[parent] -= source.directions[children].sum(0)
    labels = source.labels()
    report = evaluate(sae, store, metrics=["absorption"], concepts=labels)
    held = np.repeat(store.held_out, 64)[: store.n_tokens]
    wanted = []
    for family in labels.families:
        on = labels.on[held][:, list(family.children)]
        wanted.append(on[:, :5].any(1).sum() / on.any(1).sum())
    assert report.values["hole_rate"] == pytest.approx(float(np.mean(wanted)))
    assert report.values["absorption_full"] == 0.0  # nothing stands in: a hole is no absorption
    assert 0.001 < report.stderr["hole_rate"] < 0.05


def test_few_children_are_seen_as_splitting_and_as_a_hole(tmp_path: Path) -> None:
    config = SyntheticConfig(d_in=20, n_concepts=16, n_trees=4, n_children=3, magnitude_jitter=0.0)
    source = SyntheticSource(config, n_tokens=20_000, held_out_fraction=0.4)
    sae = build_sae("standard", d_in=20, n_latents=16, target_l0=4, meta={"hook_name": HOOK})
    with torch.no_grad():
        sae.W_dec.copy_(source.directions)
        sae.W_enc_rows.copy_(source.directions)
        sae.b_enc.fill_(-0.3)
        for parent in range(4):
            children = slice(4 + 3 * parent, 7 + 3 * parent)
            sae.W_enc_rows[parent] -= source.directions[children].sum(0)
            sae.W_dec[children] += source.directions[parent]
    with source.write(tmp_path / "acts.h5") as store:
        found = evaluate(sae, store, metrics=["absorption"], concepts=source.labels()).values
    assert found["hole_rate"] == 1.0
    assert found["split_latents"] == 4.0
    assert found["absorption_full"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_trained_with_l1_a_plain_sae_absorbs_and_prefixes_keep_parents_whole(
    tmp_path: Path, seed: int
) -> None:
    """Card 03: hole rate ≥ 0.95 without prefixes, ≤ 0.05 with {4, 16}, on every seed."""
    config = SyntheticConfig(
        d_in=20, n_concepts=16, n_trees=4, n_children=3, noise=0.0, magnitude_jitter=0.0
    )
    source = SyntheticSource(config, n_tokens=40_000, held_out_fraction=0.3, seed=seed)
    saes = {
        name: build_sae("standard", d_in=20, n_latents=16, target_l0=None, widths=w, seed=seed)
        for name, w in {"plain": (), "prefixes": (4, 16)}.items()
    }
    steps = st.TrainConfig(n_tokens=4000 * 512, batch_tokens=512, lr=3e-3, normalize="none")
    with source.write(tmp_path / "acts.h5") as store:
        found = {
            name: evaluate(sae, store, metrics=["absorption"], concepts=source.labels()).values
            for name, sae in train_many(saes, store, steps).items()
        }
    assert found["plain"]["hole_rate"] >= 0.95
    assert found["plain"]["split_latents"] > 3.5, "a child's latent each stands for the parent"
    assert found["prefixes"]["hole_rate"] <= 0.05
    assert found["prefixes"]["split_latents"] == 1.0


def test_nothing_is_chosen_on_what_is_measured(
    trees: tuple[SyntheticSource, ActivationStore],
) -> None:
    """Labels of the held-out documents move the figures, and never the probe or the latents."""
    source, store = trees
    labels = source.labels()
    on = labels.on.copy()
    held = np.repeat(store.held_out, 64)[: store.n_tokens]
    first = labels.families[0]
    on[held, first.parent] = True  # in every held-out row
    changed = ConceptLabels(labels.names, on, labels.parents)
    contexts = [
        MetricContext(with_holes(source, n_parents=2), store, HOOK, concepts=c)
        for c in (labels, changed)
    ]
    tallies = [hierarchy_tally(ctx, c) for ctx, c in zip(contexts, (labels, changed), strict=True)]
    for one, two in zip(*(tally.readings for tally in tallies), strict=True):
        assert torch.equal(one.direction, two.direction)
        assert (one.main, one.split.tolist()) == (two.main, two.split.tolist())
    assert not np.array_equal(tallies[0].f1, tallies[1].f1)


def test_concepts_that_no_probe_reads_are_left_out_with_the_reason(
    trees: tuple[SyntheticSource, ActivationStore],
) -> None:
    source, store = trees
    rng = np.random.default_rng(0)
    on = rng.random((store.n_tokens, 2)) < 0.2
    on[:, 0] |= on[:, 1]
    labels = ConceptLabels(("noise", "more noise"), on, {"more noise": "noise"})
    report = evaluate(whole_parents(source), store, metrics=["absorption"], concepts=labels)
    assert report.values == {}
    assert "none of 1 concepts has a probe with F1 of at least 0.6" in report.skipped["absorption"]


def test_labels_are_checked() -> None:
    on = np.array([[True, True], [False, True]])
    with pytest.raises(ConfigError, match=r"'owl' is said to be a kind of 'bird'.*at 1 rows"):
        ConceptLabels(("bird", "owl"), on, {"owl": "bird"})
    with pytest.raises(ShapeError, match="one column a concept"):
        ConceptLabels(("bird",), on)
    with pytest.raises(UnknownNameError, match="nearest: bird"):
        ConceptLabels(("bird", "owl"), on, {"owl": "brid"})


def test_labels_of_another_store_are_refused(
    trees: tuple[SyntheticSource, ActivationStore],
) -> None:
    source, store = trees
    labels = ConceptLabels(("a",), np.zeros((7, 1), dtype=bool))
    with pytest.raises(ShapeError, match="label 7 rows"):
        evaluate(whole_parents(source), store, metrics=["absorption"], concepts=labels)
    none = ConceptLabels(("a",), np.zeros((store.n_tokens, 1), dtype=bool))
    with pytest.raises(ConfigError, match="none of the concepts has a parent"):
        evaluate(whole_parents(source), store, metrics=["absorption"], concepts=none)


class _Words:
    """A tokenizer of 90 words for each of six letters, of 10 for two, and of three other tokens."""

    pad_token_id = eos_token_id = None
    all_special_ids = ()

    def __init__(self) -> None:
        self.words = [
            f"{letter}{chr(97 + i // 26)}{chr(97 + i % 26)}"
            for letter in "abcdefgh"
            for i in range(10 if letter in "gh" else 90)
        ]

    def __len__(self) -> int:
        return len(self.words) + 3

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return ["Ġ", "Ġ12", "mid", *(f"Ġ{word}" for word in self.words)]


class _Speller(LanguageModel):
    """A hook whose activation is e_letter + e_word of the last token, in 8 + 64 dimensions."""

    name, n_layers, ctx_len, d_model = "speller", 1, 512, 72

    def __init__(self) -> None:
        self.hf = torch.nn.Identity()
        self.tokenizer = _Words()
        g = torch.Generator().manual_seed(0)
        self.table = torch.zeros(len(self.tokenizer), 72)
        for number, word in enumerate(self.tokenizer.words, start=3):
            self.table[number, ord(word[0]) - 97] = 1.0
            own = torch.nn.functional.normalize(torch.randn(64, generator=g), dim=0)
            self.table[number, 8:] = own

    device = torch.device("cpu")
    fingerprint = tokenizer_fingerprint = "speller-speller-"

    def hook_names(self) -> tuple[str, ...]:
        return ("h",)

    def resolve(self, hook_name: str) -> str:
        return hook_name

    def width(self, hook_name: str) -> int:
        return 72

    def tokenize(self, texts: Sequence[object], *, ctx_len: int | None = None) -> TokenBatch:
        rows = [[0, 1, 2] if isinstance(text, str) else list(text) for text in texts]
        ids = torch.tensor(rows)
        mask = torch.ones_like(ids, dtype=torch.bool)
        return TokenBatch(ids, mask, ~mask)

    def activations(self, tokens: TokenBatch, hook_names: Sequence[str]) -> dict[str, Tensor]:
        return dict.fromkeys(hook_names, self.table[tokens.ids])

    def editing(self, edits: Mapping[str, Edit]) -> AbstractContextManager[None]:
        return nullcontext()

    def logits(self, tokens: TokenBatch) -> Tensor:
        raise NotImplementedError

    token_losses = loss = generate = logits  # type: ignore[assignment]


def speller_sae(model: _Speller, *, stolen: float) -> SAE:
    """Eight letter latents; a share of the words has a latent of its own, with the letter in it."""
    words = model.tokenizer.words
    rng = np.random.default_rng(0)
    thieves = [i for i in range(len(words)) if rng.random() < stolen]
    sae = build_sae("standard", d_in=72, n_latents=8 + len(thieves), target_l0=2)
    with torch.no_grad():
        sae.W_dec.zero_()
        sae.W_enc_rows.zero_()
        sae.W_dec[:8, :8] = torch.eye(8)
        sae.W_enc_rows[:8, :8] = 4 * torch.eye(8)
        sae.b_enc.fill_(-3.0)
        for latent, word in enumerate(thieves, start=8):
            row = model.table[3 + word]
            sae.W_dec[latent] = row / row.norm()
            sae.W_enc_rows[latent] = 3 * row
            sae.b_enc[latent] = -5.0  # the word itself gives 6, any other less than 5
    return sae


def test_words_are_the_tokens_of_a_space_and_letters() -> None:
    words = vocabulary_words(_Words())
    assert len(words) == 6 * 90 + 2 * 10
    assert words[0] == (3, "aaa")
    assert letters_of(words) == list("abcdef")


def test_first_letters_of_a_perfect_sae_are_not_absorbed(
    trees: tuple[SyntheticSource, ActivationStore],
) -> None:
    model = _Speller()
    ctx = MetricContext(speller_sae(model, stolen=0.0), trees[1], "h", model=model)
    assert Absorption().missing(ctx) is None
    found = {row.figure.name: row.value for row in Absorption().compute(ctx).measurements}
    assert found["absorption_full"] == found["absorption_fraction"] == found["hole_rate"] == 0.0
    assert found["split_latents"] == 1.0
    assert found["absorption_concepts"] == 6


def test_words_that_take_their_letter_over_are_absorbed(
    trees: tuple[SyntheticSource, ActivationStore],
) -> None:
    model = _Speller()
    sae = speller_sae(model, stolen=0.3)
    inner = sae.encode

    def encode(x: Tensor) -> SparseLatents:
        """Letter latents are silent where a word's own latent is on."""
        dense = inner(x).dense()
        dense[:, :8] *= ~(dense[:, 8:] > 0).any(1, keepdim=True)
        return sparse(dense)

    sae.encode = encode  # type: ignore[method-assign]
    ctx = MetricContext(sae, trees[1], "h", model=model)
    found = {row.figure.name: row for row in Absorption().compute(ctx).measurements}
    for name in ("absorption_full", "absorption_fraction", "hole_rate"):
        assert found[name].value == pytest.approx(0.3, abs=0.08), name
        assert 0.01 < found[name].stderr < 0.08
    assert found["split_latents"].value == 1.0


def test_a_vocabulary_without_words_is_left_out_with_the_reason(
    tiny_lm: LanguageModel, trees: tuple[SyntheticSource, ActivationStore]
) -> None:
    source, store = trees
    ctx = MetricContext(whole_parents(source), store, HOOK, model=tiny_lm)
    assert "no letter begins 67 of them" in str(Absorption().missing(ctx))
    alone = MetricContext(whole_parents(source), store, HOOK)
    assert "needs concepts= with parents, or a language model" in str(Absorption().missing(alone))
