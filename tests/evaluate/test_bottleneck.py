"""The concept bottleneck finds planted causes, explains itself truly and says what it costs."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from saetools.errors import ConfigError, FormatError, ShapeError, UnknownNameError
from saetools.evaluate.bottleneck import ConceptBottleneck, compare_heads
from saetools.evaluate.concept_search import TextFeatures
from saetools.evaluate.concepts.sparse_logistic import logits, penalties, solve_path

CAUSES = {"sea": (2, 11), "farm": (5, 30), "city": (8, 41)}
CLASSES = list(CAUSES)
N_LATENTS = 50


def planted(n=600, *, seed=0, size=5.0):
    """Latents of which two raise the score of each class; the rest do nothing."""
    rng = np.random.default_rng(seed)
    z = rng.exponential(size=(n, N_LATENTS)) * (rng.random((n, N_LATENTS)) < 0.3)
    weight = np.zeros((N_LATENTS, 3))
    for c, name in enumerate(CLASSES):
        weight[list(CAUSES[name]), c] = size
    of_class = (z @ weight + rng.gumbel(size=(n, 3))).argmax(1)
    x = rng.normal(size=(n, 10)).astype(np.float32)
    return TextFeatures(np.arange(n), x, sparse.csr_matrix(z), "max"), of_class


@pytest.fixture(scope="module")
def world():
    features, of_class = planted()
    return features, [CLASSES[c] for c in of_class]


@pytest.fixture(scope="module")
def fitted(world):
    return ConceptBottleneck.fit(*world, names={i: f"name {i}" for i in range(N_LATENTS)})


def objective(x, of_class, weight, bias, lam):
    score = x @ weight + bias
    loss = np.log(np.exp(score).sum(1)) - score[np.arange(len(x)), of_class]
    return loss.mean() + lam * np.abs(weight).sum()


@pytest.mark.parametrize("place", [4, 8, 12])
def test_the_solver_reaches_scikit_learns_optimum(place):
    features, of_class = planted(300, size=2.0)
    x = features.latents.toarray()
    target = np.eye(3)[of_class]
    grid = penalties(features.latents.tocsc(), target, n=20, least=0.01)
    path = solve_path(features.latents.tocsc(), target, grid[: place + 1], tolerance=1e-4)
    point = list(path)[-1]
    weight = np.zeros((N_LATENTS, 3))
    weight[point.units] = point.weight
    other = LogisticRegression(
        l1_ratio=1, C=1 / (300 * point.penalty), solver="saga", tol=1e-7, max_iter=20_000
    ).fit(x, of_class)
    ours = objective(x, of_class, weight, point.bias, point.penalty)
    theirs = objective(x, of_class, other.coef_.T, other.intercept_, point.penalty)
    assert ours <= theirs + 1e-6


def test_no_unit_that_the_screening_left_out_belongs_in():
    """At every penalty the optimality conditions hold for all units, not for the active ones."""
    features, of_class = planted(300)
    x, target = features.latents.tocsc(), np.eye(3)[of_class]
    grid = penalties(x, target, n=12, least=0.02)
    for point in solve_path(x, target, grid):
        score = np.exp(logits(x, point))
        pull = np.asarray(x.T @ (score / score.sum(1, keepdims=True) - target)) / 300
        assert np.abs(pull).max() <= point.penalty * 1.02
        np.testing.assert_allclose(
            pull[point.units][point.weight != 0],
            -point.penalty * np.sign(point.weight[point.weight != 0]),
            rtol=0.03,
        )


def test_planted_causes_are_recovered(world, fitted):
    truth = {latent for pair in CAUSES.values() for latent in pair}
    assert truth <= set(fitted.latents)
    size = np.abs(fitted.head.weight).max(1)
    assert {fitted.latents[i] for i in np.argsort(-size)[:6]} == truth
    for name, pair in CAUSES.items():
        weight = fitted.head.weight[:, fitted.classes.index(name)]
        assert {fitted.latents[i] for i in np.argsort(-weight)[:2]} == set(pair)


def test_some_penalty_leaves_the_causes_and_nothing_else(world):
    features, labels = world
    of_class = np.array([CLASSES.index(name) for name in labels])
    x, target = features.latents.tocsc(), np.eye(3)[of_class]
    grid = penalties(x, target, n=30, least=0.05)
    supports = [set(point.units.tolist()) for point in solve_path(x, target, grid)]
    assert {latent for pair in CAUSES.values() for latent in pair} in supports


def test_setting_a_cause_flips_the_class_and_setting_another_latent_changes_nothing(fitted):
    z = np.zeros((1, N_LATENTS))
    z[0, [2, 11]] = 1.5  # a text of the sea
    z[0, 20] = 2.0
    features = TextFeatures(
        np.arange(1), np.zeros((1, 10), np.float32), sparse.csr_matrix(z), "max"
    )
    sparse_head = ConceptBottleneck.fit(*_world_of(planted()), penalty=0.05)
    assert sparse_head.predict(features) == ["sea"]
    idle = next(i for i in range(N_LATENTS) if i not in sparse_head.latents)
    nothing = sparse_head.intervene(features, 0, {idle: 3.0})
    np.testing.assert_array_equal(nothing.before, nothing.after)
    assert nothing.unused == (idle,)
    flipped = sparse_head.intervene(features, 0, {2: 0.0, 11: 0.0, 5: 2.0})
    assert flipped.predicted == ("sea", "farm")
    assert flipped.changed == {2: (1.5, 0.0), 11: (1.5, 0.0), 5: (0.0, 2.0)}


def _world_of(found):
    features, of_class = found
    return features, [CLASSES[c] for c in of_class]


def test_an_intervention_is_what_the_prediction_would_be_of_such_a_text(world, fitted):
    features, _ = world
    latent = fitted.latents[0]
    z = features.latents[[7]].toarray()
    z[0, latent] = 4.0
    changed = TextFeatures(np.arange(1), features.x[:1], sparse.csr_matrix(z), "max")
    by_hand = fitted.probabilities(changed)[0]
    np.testing.assert_allclose(fitted.intervene(features, 7, {latent: 4.0}).after, by_hand)
    by_name = fitted.intervene(features, 7, {f"name {latent}": 4.0})
    np.testing.assert_allclose(by_name.after, by_hand)


def test_contributions_add_up_to_the_score(world, fitted):
    features, _ = world
    score = fitted.head.logits(features.latents)[4]
    told = fitted.explain(features, 4, top=2)
    assert told.predicted == fitted.classes[int(score.argmax())]
    assert told.logit == pytest.approx(score.max())
    assert len(told.contributions) == 2
    sizes = [abs(c.value) for c in told.contributions]
    assert sizes == sorted(sizes, reverse=True)
    for part in told.contributions:
        assert part.value == pytest.approx(part.activation * part.weight)
        assert part.activation == pytest.approx(features.latents[4, part.latent])
    versus = fitted.explain(features, 4, of="sea", against="farm")
    at = {name: i for i, name in enumerate(fitted.classes)}
    assert versus.logit == pytest.approx(score[at["sea"]] - score[at["farm"]])


def test_only_named_latents_are_read(world):
    names = {i: "n" for i in range(N_LATENTS) if i not in (2, 30)}
    fitted = ConceptBottleneck.fit(*world, names=names)
    assert set(fitted.latents) <= set(names)
    assert fitted.name(fitted.latents[0]) == "n"
    with pytest.raises(ConfigError, match="no latent to classify by"):
        ConceptBottleneck.fit(*world, names={N_LATENTS: "n"})


def test_a_latent_that_fires_in_four_texts_is_not_learned_from(world):
    """It would part those texts from all others at no cost, whatever they are."""
    features, labels = world
    rare = np.zeros((600, 2))
    rare[:4, 0] = rare[:5, 1] = 1.0
    more = sparse.csr_matrix(sparse.hstack([features.latents, rare]))
    wide = TextFeatures(features.place, features.x, more, "max")
    odd = ["odd"] * 5 + list(labels[5:])
    assert ConceptBottleneck.fit(wide, odd, penalty=1e-3).latents[-1] == N_LATENTS + 1
    assert N_LATENTS not in ConceptBottleneck.fit(wide, odd, penalty=1e-3).latents


def test_a_saved_bottleneck_predicts_the_same(world, fitted, tmp_path):
    features, _ = world
    again = ConceptBottleneck.load(fitted.save(tmp_path / "bottleneck"))
    np.testing.assert_array_equal(again.probabilities(features), fitted.probabilities(features))
    assert again.path == fitted.path
    assert again.names == fitted.names
    assert again._repr_html_() == fitted._repr_html_()
    (tmp_path / "bottleneck" / "bottleneck.safetensors").unlink()
    with pytest.raises(FormatError, match="lacks"):
        ConceptBottleneck.load(tmp_path / "bottleneck")


def test_features_of_another_kind_are_refused(world, fitted):
    features, _ = world
    mean = TextFeatures(features.place, features.x, features.latents, "mean")
    with pytest.raises(ConfigError, match="max-pooled"):
        fitted.predict(mean)
    narrow = TextFeatures(features.place, features.x, features.latents[:, :9], "max")
    with pytest.raises(ShapeError, match="50 latents"):
        fitted.predict(narrow)
    with pytest.raises(UnknownNameError, match="farm"):
        fitted.explain(features, 0, of="farn")
    with pytest.raises(UnknownNameError, match="latent 50"):
        fitted.intervene(features, 0, {50: 1.0})


def halves(n):
    return np.random.default_rng(0).random(n) < 0.4


def test_a_comparison_says_when_the_bottleneck_is_better(world):
    features, labels = world
    compared = compare_heads(features, labels, held_out=halves(600))
    assert compared.verdict.startswith("The bottleneck beats the raw head")
    assert compared.latents.accuracy > 0.75
    assert compared.raw.accuracy < 0.5
    assert compared.difference[0] == pytest.approx(
        compared.latents.accuracy - compared.raw.accuracy
    )
    assert [s.n_units for s in compared.curve] == sorted(s.n_units for s in compared.curve)
    assert compared.curve[-1] == compared.latents
    test = features.take(halves(600))
    right = np.mean(
        [a == labels[i] for a, i in zip(compared.bottleneck.predict(test), test.place, strict=True)]
    )
    assert compared.latents.accuracy == pytest.approx(right)


def test_a_comparison_says_when_the_raw_head_is_better(world):
    features, labels = world
    x = np.eye(3)[[CLASSES.index(name) for name in labels]].astype(np.float32)
    rng = np.random.default_rng(1)
    noise = sparse.random(600, 30, density=0.2, format="csr", random_state=rng)
    told = TextFeatures(features.place, x + 0.1 * rng.normal(size=x.shape), noise, "max")
    compared = compare_heads(told, labels, held_out=halves(600))
    assert compared.verdict.startswith("The raw head beats the bottleneck")
    assert compared.raw.accuracy > 0.98


def test_the_penalty_is_chosen_without_held_out_texts(world):
    features, labels = world
    held = halves(600)
    mixed = list(labels)
    places = np.flatnonzero(held)
    for i, j in zip(places, np.random.default_rng(0).permutation(places), strict=True):
        mixed[i] = labels[j]
    a, b = (compare_heads(features, these, held_out=held) for these in (labels, mixed))
    np.testing.assert_array_equal(a.bottleneck.head.weight, b.bottleneck.head.weight)
    assert b.latents.accuracy < 0.45 < a.latents.accuracy


def test_html_holds_no_name_unescaped(world):
    features, labels = world
    names = dict.fromkeys(range(N_LATENTS), "<script>x</script>")
    compared = compare_heads(
        features, [f"<i>{name}" for name in labels], held_out=halves(600), names=names
    )
    fitted = compared.bottleneck
    told = fitted.explain(features, 0, against="<i>sea")
    changed = fitted.intervene(features, 0, {fitted.latents[0]: 0.0})
    for shown in (compared, fitted, told, changed):
        page = shown._repr_html_()
        assert "<script>" not in page
        assert "<i>" not in page
        assert "<table>" in page


def test_classes_with_too_few_texts_are_refused(world):
    features, labels = world
    with pytest.raises(ConfigError, match="4 texts each"):
        ConceptBottleneck.fit(features, ["odd", *labels[1:]])
    with pytest.raises(ShapeError, match="give each text one"):
        ConceptBottleneck.fit(features, labels[1:])
