"""Resampling documents gives the standard errors that theory gives."""

import math

import numpy as np
import pytest

from saetools.evaluate.bootstrap import (
    interval,
    jackknife_stderr,
    mean_stderr,
    ratio_stderr,
    resample,
)


def test_the_error_of_a_mean_is_s_over_root_n() -> None:
    values = np.random.default_rng(0).normal(size=400)
    expected = values.std(ddof=1) / math.sqrt(400)
    assert mean_stderr(values, seed=0) == pytest.approx(expected, rel=0.15)


def test_a_ratio_that_is_the_same_in_every_document_has_no_error() -> None:
    below = np.random.default_rng(0).uniform(1, 9, size=50)
    assert ratio_stderr(3 * below, below, seed=0) == pytest.approx(0.0, abs=1e-12)


def test_one_document_has_no_error_to_speak_of() -> None:
    assert math.isnan(mean_stderr(np.ones(1), seed=0))


def test_resamples_draw_as_many_documents_as_there_are() -> None:
    draws = resample(30, seed=2, n_draws=50)
    assert (draws.sum(1) == 30).all()
    assert np.array_equal(draws, resample(30, seed=2, n_draws=50))
    assert not np.array_equal(draws, resample(30, seed=3, n_draws=50))


def test_the_interval_holds_its_share_of_the_draws() -> None:
    assert interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))


def test_leaving_one_out_gives_the_error_of_a_mean_exactly() -> None:
    values = np.random.default_rng(0).normal(size=32)
    without = (values.sum() - values) / 31
    assert jackknife_stderr(without) == pytest.approx(values.std(ddof=1) / math.sqrt(32))
    assert math.isnan(jackknife_stderr(without[:1]))
