"""A table of scores keeps what it was given, and shows it."""

import json
import math

import numpy as np
import pytest

from saetools.errors import FormatError, UnknownNameError
from saetools.naming.scores import Score, ScoreTable


def _table():
    return ScoreTable(
        [
            Score(2, "predicate", 0.9, 0.8, 1.0, 50, 50, 0.5, 0.4, firing_rate=0.03,
                  details={"f1": 0.9, "auc": math.nan}),
            Score(5, "predicate", 0.7, 0.6, 0.8, 50, 50, 0.5, math.nan, firing_rate=0.01,
                  details={"f1": 0.5}),
            Score(6, "predicate", status="dense", firing_rate=0.3),
            Score(2, "<b>", 0.2, firing_rate=0.03),
        ]
    )  # fmt: skip


def test_what_is_saved_is_loaded(tmp_path):
    table = _table()
    path = table.save(tmp_path / "scores.json")
    assert repr(list(ScoreTable.load(path))) == repr(list(table))
    assert "NaN" not in path.read_text()


def test_the_summary_is_over_what_has_a_value():
    first, second = _table().summary()
    assert first.mean == pytest.approx(0.8)
    assert first.low == pytest.approx(0.7)
    assert first.high == pytest.approx(0.9)
    assert (first.n, first.left_out) == (2, {"dense": 1})
    assert first.swapped_name == pytest.approx(0.4)
    assert first.weighted_f1 == pytest.approx((0.9 * 0.03 + 0.5 * 0.01) / 0.04)
    assert math.isnan(second.low)
    assert math.isnan(second.weighted_f1)


def test_columns_are_one_number_a_latent():
    columns = _table().columns(8)
    assert list(columns) == ["predicate", "<b>"]
    assert columns["predicate"].dtype == np.float32
    assert np.isfinite(columns["predicate"]).tolist() == [False, False, True] + [False] * 2 + [
        True,
        False,
        False,
    ]


def test_it_shows_itself_and_escapes_names():
    html = _table()._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
    assert html.count("<circle") == 2
    assert "1 dense" in html
    assert "no scores" in repr(ScoreTable())
    assert ScoreTable()._repr_html_()


def test_what_is_no_table_is_refused(tmp_path):
    path = tmp_path / "scores.json"
    with pytest.raises(FormatError, match="saetools score"):
        ScoreTable.load(path)
    for text in ("{", json.dumps({"format": "saetools-scores/9"}), json.dumps([1])):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"scores\.json"):
            ScoreTable.load(path)
    path.write_text(json.dumps({"format": "saetools-scores/1", "scores": [{"latent": 1}]}))
    with pytest.raises(FormatError, match="damaged"):
        ScoreTable.load(path)


def test_a_scorer_that_is_not_there_is_said():
    with pytest.raises(UnknownNameError, match="predicate"):
        _table().of(1, "detection")
    assert _table().of(99, "predicate") is None
