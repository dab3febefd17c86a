"""What is resampled: entities; of a single entity its facts; of a single fact nothing."""

import numpy as np

from saetools.corpus import Question
from saetools.evaluate.unlearning.draws import question_draws


def test_of_one_entity_its_facts_are_drawn_and_of_one_fact_nothing() -> None:
    questions = [Question("a", " b", entity="Zed", attribute=name) for name in "xxyz"]
    draws = question_draws(questions, stream="one", n_draws=50, seed=0)
    assert draws.n_units == 3
    assert draws.mean([1.0, 1.0, 0.0, 0.0]).draws.std() > 0
    single = question_draws(questions[:2], stream="one", n_draws=50, seed=0)
    estimate = single.mean([1.0, 0.0])
    assert estimate.value == 0.5
    assert np.isnan(estimate.draws).all(), "no interval of width 0"
