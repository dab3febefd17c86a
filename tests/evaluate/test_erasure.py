"""Fresh probes read what is there, and nothing where there is nothing."""

import numpy as np
import pytest

from saetools.errors import ConfigError
from saetools.evaluate.erasure import crossed_probe, fresh_probe


def rows(n: int, *, seed: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 5 == 0  # a fifth of the rows
    x = rng.normal(size=(n, 12))
    x[:, 0] += gap * y
    return x.astype(np.float32), y


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_probe_reads_what_is_there(kind: str) -> None:
    x, y = rows(600, seed=0, gap=3.0)
    test, truth = rows(600, seed=1, gap=3.0)
    found = fresh_probe(x, y, test, truth, kind=kind)
    # Two Gaussians three standard deviations apart: Φ(1.5) = 0.933.
    assert found.accuracy == pytest.approx(0.933, abs=0.05)
    assert not found.at_chance


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_probe_is_at_chance_where_there_is_nothing(kind: str) -> None:
    found = fresh_probe(*rows(600, seed=0, gap=0.0), *rows(2000, seed=1, gap=0.0), kind=kind)
    assert found.at_chance
    assert abs(found.accuracy - 0.5) < 0.06  # and not at the majority's four fifths


def test_the_interval_holds_the_truth_nineteen_times_of_twenty() -> None:
    x, y = rows(400, seed=0, gap=2.0)
    far = fresh_probe(x, y, *rows(20_000, seed=1, gap=2.0)).accuracy
    found = [fresh_probe(x, y, *rows(200, seed=2 + i, gap=2.0)) for i in range(40)]
    assert sum(abs(one.accuracy - far) <= one.half_width for one in found) >= 34


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_crossed_probes_test_each_row_once_and_never_on_itself(kind: str) -> None:
    found = crossed_probe(*rows(600, seed=0, gap=3.0), kind=kind)
    assert found.accuracy == pytest.approx(0.933, abs=0.06)
    assert found.n == 600
    # Wide rows of noise can be learned by heart, which shows where a row is tested on itself.
    x = np.random.default_rng(0).normal(size=(120, 400)).astype(np.float32)
    assert crossed_probe(x, np.arange(120) % 2 == 0, kind=kind).at_chance
    with pytest.raises(ConfigError, match="needs 8 texts of each class; got 6"):
        crossed_probe(*rows(30, seed=0, gap=1.0))


def test_a_short_direction_does_not_hide_from_a_probe() -> None:
    x, y = rows(600, seed=0, gap=3.0)
    test, truth = rows(600, seed=1, gap=3.0)
    x[:, 0] *= 1e-6
    test[:, 0] *= 1e-6
    assert fresh_probe(x, y, test, truth).accuracy > 0.88


def test_too_few_rows_of_a_class_are_refused() -> None:
    x, y = rows(40, seed=0, gap=1.0)
    with pytest.raises(ConfigError, match="got 8 with"):
        fresh_probe(x, y, x, y)
