"""What LEACE, R-LACE and mean projection promise: guardedness, least damage, the planted line."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from saetools.erase import ERASERS, fit_rows
from saetools.erase.erasers.leace import LeaceConfig, leace_of_stream
from saetools.erase.erasers.rlace import to_fantope
from saetools.errors import ConfigError

LINEAR = ("leace", "mean_projection")
N_CLASSES, D = 3, 20


def rows(n: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three Gaussian classes of one correlated covariance, about means far apart."""
    world = torch.Generator().manual_seed(100)
    mix = torch.randn(D, D, generator=world) / D**0.5
    means = 1.5 * torch.randn(N_CLASSES, D, generator=world)
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, N_CLASSES, (n,), generator=g)
    return torch.randn(n, D, generator=g) @ mix + means[labels], labels


def accuracy(x: torch.Tensor, y: torch.Tensor, test: torch.Tensor, truth: torch.Tensor) -> float:
    probe = LogisticRegression(max_iter=2000).fit(x.double().numpy(), y.numpy())
    return float(probe.score(test.double().numpy(), truth.numpy()))


def class_gap(x: torch.Tensor, y: torch.Tensor) -> float:
    means = torch.stack([x[y == label].double().mean(0) for label in y.unique()])
    return float((means - means[0]).abs().max())


@pytest.mark.parametrize("name", LINEAR)
def test_a_fresh_linear_probe_is_at_chance(name: str) -> None:
    x, y = rows(5000, seed=1)
    test, truth = rows(2000, seed=2)
    eraser = fit_rows(name, x, y)
    assert accuracy(x, y, test, truth) > 0.95
    majority = float(torch.bincount(truth).max()) / len(truth)
    found = accuracy(eraser(x), y, eraser(test), truth)
    # Two-sided 3 sigma of a share of 2000; the probe may also settle on another class.
    assert abs(found - majority) < 3 * np.sqrt(majority * (1 - majority) / len(truth)) + 0.02
    probe = LogisticRegression(max_iter=2000, tol=1e-10)
    probe.fit(eraser(x).double().numpy(), y.numpy())
    assert np.abs(probe.coef_).max() < 1e-4


@pytest.mark.parametrize("name", LINEAR)
def test_class_means_are_equal(name: str) -> None:
    x, y = rows(5000, seed=1)
    assert class_gap(x, y) > 1
    assert class_gap(fit_rows(name, x, y)(x), y) < 1e-5


def test_a_probe_with_a_hidden_layer_may_still_read_what_is_not_linear() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1500, 6, generator=g)
    y = (x[:, 0] * x[:, 1] > 0).long()  # no linear probe reads a product
    x[:, 2] += 3 * y
    clean = fit_rows("leace", x[:1000], y[:1000])(x)
    assert accuracy(clean[:1000], y[:1000], clean[1000:], y[1000:]) < 0.6
    mlp = MLPClassifier((64,), early_stopping=True, max_iter=600, random_state=0).fit(
        clean[:1000].numpy(), y[:1000]
    )
    assert mlp.score(clean[1000:].numpy(), y[1000:]) > 0.8


def test_leace_does_the_least_damage_of_all_valid_projections() -> None:
    x, y = rows(5000, seed=1)
    eraser = fit_rows("leace", x, y, shrink=False)
    mean = x.double().mean(0)
    centred = x.double() - mean
    one_hot = torch.nn.functional.one_hot(y, N_CLASSES).double()
    span = torch.linalg.svd(centred.T @ (one_hot - one_hot.mean(0)), full_matrices=False)[0][:, :2]
    cost = float((eraser(x).double() - x.double()).square().sum(1).mean())
    g = torch.Generator().manual_seed(3)
    own_right = eraser.tensors["right"]
    for i in range(1000):
        # I − span (right span)⁻¹ right takes the span of the class means out, for any `right`.
        noise = torch.randn(2, D, generator=g, dtype=torch.float64)
        near = i % 2  # half of them close to the optimum, where it is hardest to tell
        right = own_right + 0.05 * noise if near else noise
        taken = centred @ right.T @ torch.linalg.inv(right @ span).T @ span.T
        other = float(taken.square().sum(1).mean())
        assert cost <= other * (1 + 1e-9)


def test_mean_projection_costs_more_than_leace_and_less_than_everything() -> None:
    x, y = rows(5000, seed=1)
    cost = {name: float((fit_rows(name, x, y)(x) - x).norm(dim=1).mean()) for name in LINEAR}
    assert cost["leace"] < cost["mean_projection"]


def test_streaming_is_fitting_on_all_rows_at_once() -> None:
    x, y = rows(3000, seed=1)
    whole = fit_rows("leace", x, y)
    sizes = [1, 700, 0, 1299, 1000]
    stream = leace_of_stream(
        zip(x.split(sizes), y.split(sizes), strict=True), d_in=D, n_classes=N_CLASSES
    )
    assert whole.affine is not None
    assert torch.allclose(stream.affine.matrix, whole.affine.matrix, atol=1e-9)
    assert torch.allclose(stream(x), whole(x), atol=1e-5)


def test_few_rows_are_guarded_thanks_to_shrinkage() -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.arange(30) % 2
    x = torch.randn(30, 100, generator=g) + 2 * y.unsqueeze(1) * torch.ones(100) / 10
    shrunk = fit_rows("leace", x, y)
    assert class_gap(shrunk(x), y) < 1e-5
    assert 0 <= shrunk.report.figures["weight of the sample covariance"] < 1
    # With fewer rows than dimensions the sample's own covariance is singular.
    fresh = torch.randn(500, 100, generator=g)
    assert (shrunk(fresh) - fresh).norm(dim=1).mean() < 0.5 * fresh.norm(dim=1).mean()


def test_a_concept_that_is_not_there_is_an_error() -> None:
    x, y = torch.randn(4, 3).repeat(2, 1), torch.tensor([0] * 4 + [1] * 4)
    with pytest.raises(ConfigError, match="tolerance"):
        fit_rows("leace", x, y)
    with pytest.raises(ConfigError, match="equal means"):
        fit_rows("mean_projection", x, y)
    with pytest.raises(ConfigError, match="two"):
        leace_of_stream([(x, y * 0)], d_in=3, config=LeaceConfig())


def test_text_means_are_guarded_where_the_level_is_text() -> None:
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 30, (80,), generator=g)
    text = torch.arange(80).repeat_interleave(lengths)
    y = (text % 2).long()
    x = torch.randn(len(text), D, generator=g) + y.unsqueeze(1) * lengths[text].unsqueeze(1) / 10
    pooled = {}
    for level in ("row", "text"):
        clean = fit_rows("leace", x, y, text=text, level=level)(x).double()
        sums = torch.zeros(80, D, dtype=torch.float64).index_add_(0, text, clean)
        pooled[level] = class_gap(sums / lengths.unsqueeze(1), torch.arange(80) % 2)
    assert pooled["text"] < 1e-5
    assert pooled["row"] > 0.05


@pytest.mark.parametrize("seed", [0, 1])
def test_rlace_finds_the_planted_direction(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    u = torch.nn.functional.normalize(torch.randn(D, generator=g), dim=0)
    y = torch.randint(0, 2, (6000,), generator=g)
    x = torch.randn(6000, D, generator=g) + 4 * (y.unsqueeze(1) - 0.5) * u
    eraser = fit_rows("rlace", x[:4000], y[:4000], seed=seed)
    direction = eraser.tensors["right"][0].float()
    assert abs(float(direction @ u)) >= 0.99
    assert accuracy(x[:4000], y[:4000], x[4000:], y[4000:]) > 0.95
    found = accuracy(eraser(x[:4000]), y[:4000], eraser(x[4000:]), y[4000:])
    assert abs(found - 0.5) < 0.05


def test_the_fantope_is_symmetric_with_eigenvalues_of_the_right_sum() -> None:
    g = torch.Generator().manual_seed(0)
    inside = to_fantope(torch.randn(8, 8, generator=g, dtype=torch.float64), 3)
    values = torch.linalg.eigvalsh(inside)
    assert torch.allclose(inside, inside.T)
    assert float(values.sum()) == pytest.approx(3, abs=1e-6)
    assert values.min() > -1e-9
    assert values.max() < 1 + 1e-9
    assert torch.allclose(to_fantope(inside, 3), inside, atol=1e-6)  # it is its own nearest


def test_linear_erasers_are_affine_and_others_say_that_they_are_not(planted) -> None:
    for name in ERASERS.names():
        kind = ERASERS.get(name)
        fitted = fit_rows(
            name, planted.rows.x, planted.rows.labels, text=planted.rows.text,
            sae=planted.sae if kind.needs_sae else None,
        )  # fmt: skip
        assert (fitted.affine is not None) == (name in ("leace", "rlace", "mean_projection"))
