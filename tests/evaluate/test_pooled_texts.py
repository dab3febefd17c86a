"""Pooled texts: the same as a dense computation, in one pass, from the model or from the store."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import saetools as st
from saetools.corpus import Corpus, Document, LabelledTexts
from saetools.evaluate import METRICS, evaluate
from saetools.evaluate.concepts import PooledTexts, choose_texts, pool_batches, pool_texts
from saetools.evaluate.concepts.removal import FixedProbe, ablated_scores, pulls
from saetools.evaluate.context import MetricContext
from saetools.intervene import ablate
from saetools.models.base import LanguageModel, SubjectModel, TextEncoder
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore
from saetools.types import SparseLatents

HOOK = "blocks.1.hook_resid_post"
WORDS = ("dog", "girl", "tree", "water", "sun", "fish", "house")


@pytest.fixture(scope="module")
def labelled() -> LabelledTexts:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(2, 9))) for _ in range(90)]
    labels = tuple(frozenset(set(text.split()) & {"dog", "tree"}) for text in texts)
    return LabelledTexts(tuple(texts), labels, "words")


@pytest.fixture
def sae() -> SAE:
    return build_sae("topk", d_in=64, n_latents=96, k=6, meta={"hook_name": HOOK}, seed=3)


def _dense(model: SubjectModel, sae: SAE, texts: list[str]) -> tuple[torch.Tensor, ...]:
    """Mean activation, mean latent and largest latent of each text, one at a time."""
    found = []
    for text in texts:
        tokens = model.tokenize([text])
        x = model.activations(tokens, [HOOK])[HOOK][tokens.content].float()
        z = sae.encode(x).dense().detach()
        found.append((x.mean(0), z.mean(0), z.max(0).values))
    return tuple(torch.stack(column) for column in zip(*found, strict=True))


@pytest.mark.parametrize("kind", ["tiny_lm", "tiny_encoder"])
def test_pooling_equals_one_text_at_a_time(
    kind: str, request: pytest.FixtureRequest, labelled: LabelledTexts, sae: SAE
) -> None:
    model = request.getfixturevalue(kind)
    chosen = choose_texts(labelled)
    pooled = pool_texts(model, sae, labelled.texts, chosen, hook_name=HOOK)
    texts = [str(labelled.texts[i]) for i in chosen.texts]
    x, mean, peak = _dense(model, sae, texts)
    np.testing.assert_allclose(pooled.x, x, atol=1e-5)
    np.testing.assert_allclose(pooled.latents.toarray(), mean, atol=1e-5)
    np.testing.assert_allclose(pooled.peaks.toarray(), peak, atol=1e-5)
    np.testing.assert_array_equal(pooled.chosen.member[:, 0], labelled.has(chosen.concepts[0]))


def test_a_text_spread_over_batches_is_pooled_whole() -> None:
    chosen = choose_texts(LabelledTexts(("",) * 3, (frozenset(),) * 3, "three"))
    x, generator = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), None
    values = torch.rand(12, 2, generator=generator) + 0.1
    indices = torch.arange(24).reshape(12, 2) % 5
    text = np.array([0, 0, 2, 2, 2, 0, 0, 2, 2, 0, 0, 0])
    chosen = type(chosen)("three", np.arange(3), (), np.zeros((3, 0), dtype=bool))

    def batches(size: int) -> PooledTexts:
        parts = (
            (x[i : i + size], SparseLatents(values[i : i + size], indices[i : i + size], 5),
             text[i : i + size])
            for i in range(0, 12, size)
        )  # fmt: skip
        return pool_batches(parts, chosen, n_latents=5)

    whole, pieces = batches(12), batches(5)
    assert whole.chosen.texts.tolist() == pieces.chosen.texts.tolist() == [0, 2]  # 1 has no token
    np.testing.assert_allclose(whole.x, pieces.x, atol=1e-6)
    np.testing.assert_allclose(whole.latents.toarray(), pieces.latents.toarray(), atol=1e-6)
    np.testing.assert_array_equal(whole.peaks.toarray(), pieces.peaks.toarray())


def test_the_store_gives_what_the_model_would(
    tiny_lm: LanguageModel, labelled: LabelledTexts, sae: SAE, tmp_path
) -> None:
    documents = tuple(
        Document(str(text), label="dog" if "dog" in found else "other")
        for text, found in zip(labelled.texts, labelled.labels, strict=True)
    )
    corpus = Corpus(documents, "words")
    with st.harvest(
        tiny_lm, corpus, hook_name=HOOK, out=tmp_path / "a.h5", dtype="float32",
        held_out_fraction=0.0,
    ) as store:  # fmt: skip
        ctx = MetricContext(sae=sae, store=store, hook_name=HOOK, split="all")
        (from_store,) = ctx.pooled
    chosen = from_store.chosen
    assert set(chosen.concepts) == {"dog", "other"}
    own = LabelledTexts.of_corpus(corpus)
    from_model = pool_texts(tiny_lm, sae, own.texts, chosen, hook_name=HOOK)
    np.testing.assert_allclose(from_store.x, from_model.x, atol=1e-4)
    np.testing.assert_allclose(
        from_store.latents.toarray(), from_model.latents.toarray(), atol=1e-4
    )


def test_switching_latents_off_in_the_pool_is_ablation_in_the_model(
    tiny_encoder: TextEncoder, labelled: LabelledTexts, sae: SAE
) -> None:
    """scr and tpp run the model once, because a pooled score changes as the ablated model's."""
    chosen = choose_texts(labelled)
    pooled = pool_texts(tiny_encoder, sae, labelled.texts, chosen, hook_name=HOOK)
    weight = np.random.default_rng(0).normal(size=64)
    probe = FixedProbe(weight, 0.3)
    off = np.argsort(-np.asarray(pooled.latents.mean(0)).ravel())[:7].astype(np.int64)
    shortcut = ablated_scores(probe.scores(pooled.x), pooled.latents, pulls(sae, probe), off)
    for place in (0, 5, 11):
        tokens = tiny_encoder.tokenize([labelled.texts[chosen.texts[place]]])
        seen = []

        def read(x: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
            seen.append(x[content])  # noqa: B023 - called before the loop goes on
            return x

        with ablate(tiny_encoder, sae, off.tolist()), tiny_encoder.editing({HOOK: read}):
            tiny_encoder.embed(tokens)
        x = seen[0].mean(0, keepdim=True).numpy()
        assert shortcut[place] == pytest.approx(float(probe.scores(x)[0]), abs=1e-3)


def test_several_metrics_cost_one_pass(
    tiny_lm: LanguageModel,
    tiny_store: ActivationStore,
    labelled: LabelledTexts,
    monkeypatch: pytest.MonkeyPatch,
    identity_sae: Callable[..., SAE],
) -> None:
    read, activations = [], type(tiny_lm).activations

    def counted(self, tokens, hook_names):
        read.append(len(tokens.ids))
        return activations(self, tokens, hook_names)

    monkeypatch.setattr(type(tiny_lm), "activations", counted)
    store = tiny_store
    sae = identity_sae(64, hook_name=HOOK)
    ctx = MetricContext(sae=sae, store=store, hook_name=HOOK, model=tiny_lm, labelled=(labelled,))
    for name in ("tpp", "separability"):
        assert METRICS.get(name)().missing(ctx) is None
        METRICS.get(name)().compute(ctx)
    assert sum(read) == len(choose_texts(labelled).texts)


def test_metrics_of_concepts_say_what_they_lack(
    tiny_store: ActivationStore,
    tiny_lm: LanguageModel,
    labelled: LabelledTexts,
    identity_sae: Callable[..., SAE],
) -> None:
    sae = identity_sae(16)
    with pytest.raises(st.errors.ConfigError, match="labelled texts and no model was given"):
        evaluate(sae, tiny_store, metrics=["tpp"], labelled=[labelled])
    with pytest.raises(st.errors.ConfigError, match=r"the held_out documents of planted have"):
        evaluate(sae, tiny_store, metrics=["sparse_probing"])
    with pytest.raises(st.errors.ConfigError, match="each combination"):
        evaluate(sae, tiny_store, metrics=["scr"], split="all")
    with pytest.raises(st.errors.ConfigError, match="no data set has both; there are words: "):
        evaluate(
            sae, tiny_store, metrics=["scr"], model=tiny_lm, labelled=[labelled],
            concept_pairs=[("dog", "cat")],
        )  # fmt: skip
