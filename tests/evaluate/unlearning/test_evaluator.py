"""The evaluator tells apart what it must: nothing forgotten, an oracle, a mask, and ruins.

These are the tests of the evaluator itself of card 20 of our methods, on a world of eight
forgotten people with 24 facts: a KS test of two samples of 24 cannot go below 10^-13.
"""

import copy
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
import torch

from saetools.evaluate.unlearning import (
    UnlearningReport,
    UnlearningSettings,
    evaluate_unlearning,
)
from saetools.models import LanguageModel, from_hf

PARTS_OF_S = (
    "efficacy",
    "form_robustness",
    "neighbours_kept",
    "utility",
    "relearn_resistance",
)


def only(settings: UnlearningSettings, *measures: str) -> UnlearningSettings:
    return settings.model_copy(update={"measures": measures})


def test_a_model_that_forgot_nothing_is_found_out(original, oracles, data, settings) -> None:
    report = evaluate_unlearning(
        original, original=original, oracles=oracles[:2], data=data, settings=settings
    )
    assert not report.missing
    assert report.row("efficacy").value == 0
    assert report.row("privacy_leak").value < -95
    assert report.row("privacy_leak").high < -90
    assert report.row("forget_quality").value < -6
    assert report.row("residue").low > 0.3
    assert report.row("relearn_resistance").value < 0.2
    assert report.row("kl_to_oracle", detail="concept").value > 1.5 * max(
        report.row("kl_to_oracle", model=f"oracle-{i}", detail="concept").value for i in range(2)
    )
    assert report.row("extraction_strength", detail="answers").value > 0.8
    assert report.row("knowledge", detail="forget").value > 0.8
    assert report.row("utility").value == 1
    assert report.row("n_changed").value == 0
    assert report.score == 0


def test_an_oracle_of_another_seed_passes(original, oracles, data, settings) -> None:
    report = evaluate_unlearning(
        oracles[3], original=original, oracles=oracles[:3], data=data, settings=settings
    )
    assert report.score is not None
    assert report.score >= 0.9
    band = [report.row("privacy_leak", model=f"oracle-{i}") for i in range(3)]
    leak = report.row("privacy_leak")
    assert min(row.low for row in band) <= leak.value <= max(row.high for row in band)
    assert leak.low < 0 < leak.high
    assert report.row("residue").low < 0.05
    noise = [report.row("kl_to_oracle", model=f"oracle-{i}", detail="concept") for i in range(3)]
    distance = report.row("kl_to_oracle", detail="concept")
    assert distance.low <= max(row.high for row in noise)
    assert distance.high < report.row("kl_to_oracle", model="original", detail="concept").low


def test_oracles_of_different_seeds_cannot_be_told_apart(original, oracles, data, settings) -> None:
    passed = []
    for edited, oracle in permutations(oracles, 2):
        report = evaluate_unlearning(
            edited,
            original=original,
            oracles=[oracle],
            data=data,
            settings=only(settings, "forget_quality"),
        )
        passed.append(10 ** report.row("forget_quality").value > 0.05)
    assert sum(passed) >= 0.9 * len(passed)


def test_constant_logits_score_nothing(original, oracles, data, settings, make_candidate) -> None:
    constant = make_candidate.Constant(original, "constant")
    report = evaluate_unlearning(
        constant, original=original, oracles=oracles[:2], data=data, settings=settings
    )
    assert report.row("efficacy").value == pytest.approx(1)
    assert report.row("utility").value < 0.05
    assert report.row("neighbours_kept").value == pytest.approx(0, abs=1e-9)
    assert report.score == 0
    assert set(report.missing) == {"residue", "relearn_resistance", "edit_norm"}
    assert "constant gives no activations" in report.missing["residue"]


def test_an_output_filter_fools_efficacy_only(
    original, oracles, data, settings, make_candidate
) -> None:
    names = {question.entity for question in data.forget}
    masked = make_candidate.OutputFilter(original, sorted(names))
    report = evaluate_unlearning(
        masked, original=original, oracles=oracles[:2], data=data, settings=settings
    )
    for form in ("statement", "question"):  # these name the concept
        assert report.row("forgetting", detail=form).value == pytest.approx(1)
    assert report.row("efficacy").value > 0.6
    assert report.row("forgetting", detail="nickname").value == pytest.approx(0)
    assert report.row("form_robustness").value == pytest.approx(0)
    assert report.row("residue").low > 0.3
    assert report.row("neighbours_kept").value == 1
    assert report.score == pytest.approx(0, abs=1e-9)


def test_random_weights_score_nothing(random_model, original, oracles, data, settings) -> None:
    report = evaluate_unlearning(
        random_model(9),
        original=original,
        oracles=oracles[:2],
        data=data,
        settings=only(settings, *PARTS_OF_S),
    )
    assert report.row("utility").value < 0.1
    assert report.row("neighbours_kept").value < 0.1
    assert report.row("relearn_resistance").value > 0.8
    assert report.score is not None
    assert report.score < 0.1


def test_gradient_ascent_past_forgetting_leaks(original, oracles, data, settings) -> None:
    def evaluated(n_steps: int) -> UnlearningReport:
        return evaluate_unlearning(
            ascend(original, data.forget_texts, n_steps=n_steps),
            original=original,
            oracles=oracles[:2],
            data=data,
            settings=only(settings, *PARTS_OF_S, "privacy_leak", "edit_norm"),
        )

    soon, late = evaluated(2), evaluated(10)
    assert soon.row("privacy_leak").high < 0  # not yet forgotten
    assert late.row("privacy_leak").value > 0  # known by its absence
    assert late.row("utility").value < 0.6 < soon.row("utility").value
    assert late.score is not None
    assert late.score < 0.7
    assert late.row("edit_norm").value > soon.row("edit_norm").value > 0


def test_what_was_only_suppressed_comes_back(original, oracles, data, settings) -> None:
    suppressed = ascend(original, data.forget_texts, n_steps=4, lr=3e-4)
    relearn = settings.relearn.model_copy(update={"every": 4})
    report = evaluate_unlearning(
        suppressed,
        original=original,
        oracles=oracles[:2],
        data=data,
        settings=only(settings, *PARTS_OF_S).model_copy(update={"relearn": relearn}),
    )
    curve = report.curve("relearning edited")
    assert curve is not None
    assert report.row("efficacy").value > 0.5
    assert max(curve.y) > curve.y[0] + 0.1
    assert report.row("relearn_resistance").high < 0.9
    assert report.row("relearn_resistance", model="oracle-0").value > 0.9


def ascend(
    original: LanguageModel, texts: Sequence[str], *, n_steps: int, lr: float = 1e-3
) -> LanguageModel:
    """The original after gradient ascent on the loss of the texts, which does not converge."""
    hf: Any = copy.deepcopy(original.hf)
    model = from_hf(hf, original.tokenizer, name="ascended")
    assert isinstance(model, LanguageModel)
    tokens = model.tokenize(list(texts))
    labels = tokens.ids.masked_fill(~tokens.mask, -100)
    optimizer = torch.optim.AdamW(hf.parameters(), lr=lr)
    for _ in range(n_steps):
        optimizer.zero_grad()
        logits = hf(input_ids=tokens.ids, attention_mask=tokens.mask.long()).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
        )
        (-loss).backward()
        optimizer.step()
    return model
