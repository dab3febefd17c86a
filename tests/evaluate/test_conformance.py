"""Every metric keeps the contract: declared figures, in range, repeatable, with a meaning."""

from collections.abc import Iterator

import numpy as np
import pytest

import saetools as st
from saetools.corpus import ConceptLabels, LabelledTexts, Question
from saetools.evaluate import METRICS, evaluate
from saetools.models.base import LanguageModel, SubjectModel, TextEncoder
from saetools.sae import build_sae
from saetools.store import ActivationStore

HOOK = "blocks.1.hook_resid_post"
TEXTS = [
    f"the {one} saw the {other} in the {place}"
    for one in ("dog", "girl", "man", "cat")
    for other in ("tree", "sun", "fish")
    for place in ("water", "garden", "house", "city")
]
# One who sees and a place are concepts that occur together, each alone, and not at all.
CONCEPTS = {"dog", "water"}
LABELLED = LabelledTexts(
    tuple(f"{text} {'again ' * i}" for text in TEXTS for i in range(16)),
    tuple(
        frozenset(
            word
            for word, told in zip(text.split()[1::6], (i % 2, i % 4 > 1), strict=True)
            if told and word in CONCEPTS
        )
        for text in TEXTS
        for i in range(16)
    ),
    "who and where",
)

MANY = ("big", "boy", "child", "city", "day", "dog", "fish", "friend", "garden", "girl", "house")
MANY += ("king", "man", "mother", "name", "people", "red", "sea", "story", "sun", "thing", "time")

Subject = tuple[SubjectModel, ActivationStore]


@pytest.fixture(scope="module", params=["language_model", "text_encoder"])
def subject(
    request: pytest.FixtureRequest,
    tiny_lm: LanguageModel,
    tiny_encoder: TextEncoder,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Subject]:
    model: SubjectModel = tiny_lm if request.param == "language_model" else tiny_encoder
    path = tmp_path_factory.mktemp(request.param) / "acts.h5"
    with st.harvest(model, TEXTS, hook_name=HOOK, out=path, held_out_fraction=0.5) as store:
        yield model, store


def places(model: SubjectModel, store: ActivationStore) -> ConceptLabels:
    """The last words of the texts, and that they are places."""
    names = ("water", "garden", "house", "city")
    text = TEXTS[0].rsplit(" ", 1)[0]
    n_before = int(model.tokenize([text]).content.sum())
    on = np.zeros((store.n_tokens, 5), dtype=bool)
    for doc, (start, stop) in enumerate(store.doc_spans):
        on[start + n_before : stop, [0, 1 + names.index(TEXTS[doc].rsplit(" ", 1)[1])]] = True
    return ConceptLabels(("place", *names), on, dict.fromkeys(names, "place"))


def own_facts(model: SubjectModel) -> tuple[Question, ...]:
    """Questions whose right answer is what the model says."""
    if not isinstance(model, LanguageModel):
        return ()
    found = []
    for entity in MANY:
        for attribute, form in (("saying", "the {} said that"), ("wish", "a {} would like")):
            prompt = form.format(entity)
            answer = model.generate(prompt, 1).removeprefix(prompt)
            found.append(Question(prompt, answer, (), entity, attribute))
    return tuple(found)


@pytest.mark.parametrize("name", METRICS.names())
def test_metric_keeps_the_contract(name: str, subject: Subject) -> None:
    model, store = subject
    metric = METRICS.get(name)()
    if metric.needs not in (None, model.kind):
        pytest.skip(f"{name} runs a {metric.needs}")
    sae, twin = (
        build_sae("topk", d_in=64, n_latents=128, k=8, meta={"hook_name": HOOK}, seed=seed)
        for seed in (0, 1)
    )
    once, again = (
        evaluate(
            sae,
            store,
            model=model,
            corpus=TEXTS,
            metrics=[name],
            n_docs=16,
            labelled=[LABELLED],
            twins=[twin],
            seed=5,
            concepts=places(model, store),
            questions=own_facts(model),
        )
        for _ in range(2)
    )
    assert str(once.values) == str(again.values)  # as text, so that NaN equals NaN
    assert str(once.stderr) == str(again.stderr)
    assert str(once.tables) == str(again.tables)
    assert once.skipped == {}
    assert [f.name for f in metric.figures] == list(once.values)
    for row in once.rows:
        low, high = row.figure.range
        assert row.value != row.value or low <= row.value <= high, row.figure.name
        assert len(row.figure.meaning) > 10
        assert row.stderr != row.stderr or row.stderr >= 0
        assert row.stderr_concepts != row.stderr_concepts or row.stderr_concepts >= 0
    for table in once.tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_the_metrics_of_the_package_are_found() -> None:
    of_sae = {"reconstruction", "sparsity", "loss_recovered", "embedding_cosine", "stability"}
    of_concepts = {"sparse_probing", "separability", "scr", "tpp"}
    assert of_sae | of_concepts <= set(METRICS.names())


def test_the_metrics_of_reconstruction_and_behaviour_are_found() -> None:
    assert {
        "decoder_geometry",
        "embedding_cosine",
        "loss_recovered",
        "reconstruction",
        "retrieval",
        "sparsity",
    } <= set(METRICS.names())
