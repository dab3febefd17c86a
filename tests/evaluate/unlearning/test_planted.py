"""The evaluator's own tests on the models that the package ships, whose truth is known."""

from collections.abc import Sequence

import pytest

from saetools.corpus import Question
from saetools.corpus.planted import World
from saetools.evaluate.unlearning import (
    UnlearningData,
    UnlearningReport,
    UnlearningSettings,
    evaluate_unlearning,
)
from saetools.models import LanguageModel, load_model
from saetools.models.shipped import shipped_names

pytestmark = pytest.mark.skipif(
    "planted:oracle-0" not in shipped_names(), reason="no planted model with an oracle shipped"
)

PARTS_OF_S = (
    "efficacy",
    "form_robustness",
    "neighbours_kept",
    "utility",
    "relearn_resistance",
)
FORMS = ("statement", "question", "reversed", "two_hop")
SETTINGS = UnlearningSettings(
    measures=(*PARTS_OF_S, "residue", "privacy_leak", "forget_quality"),
    n_questions=200,
    n_draws=100,
    relearn={"lr": 1e-4, "n_steps": 10, "every": 5},
    probe={"layers": (2, 3), "max_rows": 600},
)


def load(name: str) -> LanguageModel:
    model = load_model(name)
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture(scope="module")
def planted() -> LanguageModel:
    return load("planted")


@pytest.fixture(scope="module")
def planted_oracle() -> LanguageModel:
    return load("planted:oracle-0")


@pytest.fixture(scope="module")
def planted_data() -> UnlearningData:
    world = World.build()
    held_out = [entity.name for entity in world.held_out_entities]
    texts = world.documents(40, seed=77, without=world.forget_entities)
    return UnlearningData.split(
        [question for form in FORMS for question in world.questions(form=form)],
        forget_entities=world.forget_entities,
        texts=[text.text for text in texts],
        forget_texts=[text.text for text in world.texts_about(world.forget_entities)],
        holdout_texts=[text.text for text in world.texts_about(held_out)],
    )


def only(*measures: str) -> UnlearningSettings:
    return SETTINGS.model_copy(update={"measures": measures})


def test_the_base_model_has_forgotten_nothing(planted, planted_oracle, planted_data) -> None:
    report = evaluate_unlearning(
        planted,
        original=planted,
        oracles=[planted_oracle],
        data=planted_data,
        settings=SETTINGS,
    )
    assert report.row("efficacy").value == 0
    assert report.row("privacy_leak").high < -20
    assert report.row("forget_quality").value < -6
    assert report.row("residue").low > 0
    assert report.row("relearn_resistance").value < 0.2
    assert report.score == 0


@pytest.mark.skipif(
    "planted:oracle-1" not in shipped_names(), reason="no second planted oracle shipped"
)
def test_an_oracle_of_another_seed_has_forgotten(planted, planted_oracle, planted_data) -> None:
    report = evaluate_unlearning(
        load("planted:oracle-1"),
        original=planted,
        oracles=[planted_oracle],
        data=planted_data,
        settings=SETTINGS,
    )
    assert report.score is not None
    assert report.score >= 0.9
    assert 10 ** report.row("forget_quality").value > 0.05
    leak = report.row("privacy_leak")
    assert leak.low < 0 < leak.high
    assert report.row("residue").low < 0.05


def test_constant_logits_are_ruins(planted, planted_oracle, planted_data, make_candidate) -> None:
    report = score_only(
        make_candidate.Constant(planted, "constant"), planted, planted_oracle, planted_data
    )
    assert report.row("efficacy").value == pytest.approx(1, abs=1e-6)
    assert report.row("utility").value < 0.01
    assert report.score == pytest.approx(0, abs=1e-6)


def test_an_output_filter_is_seen_through(
    planted, planted_oracle, planted_data, make_candidate
) -> None:
    masked = make_candidate.OutputFilter(planted, spellings(planted_data.forget))
    report = evaluate_unlearning(
        masked,
        original=planted,
        oracles=[planted_oracle],
        data=planted_data,
        settings=only(*PARTS_OF_S, "residue"),
    )
    assert report.row("forgetting", detail="statement").value > 0.95
    assert report.row("forgetting", detail="question").value > 0.95
    assert report.row("efficacy").value > 0.6
    assert report.row("residue").low > 0
    # A reversed question does not hold the name.
    assert report.row("forgetting", detail="reversed").value < 0.1
    assert report.row("form_robustness").value < 0.1
    assert report.score is not None
    assert report.score < 0.4


def score_only(
    edited: object,
    original: LanguageModel,
    oracle: LanguageModel,
    data: UnlearningData,
) -> UnlearningReport:
    return evaluate_unlearning(
        edited, original=original, oracles=[oracle], data=data, settings=only(*PARTS_OF_S)
    )


def spellings(questions: Sequence[Question]) -> list[str]:
    """Names as they stand at the beginning of a text and inside it."""
    names = sorted({question.entity for question in questions})
    return [*names, *(f" {name}" for name in names)]
