"""Each score on a case with a known answer, and beside an independent implementation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, hmean, ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from saetools.corpus import Question
from saetools.evaluate.bootstrap import Estimate
from saetools.evaluate.unlearning.answers import Answers
from saetools.evaluate.unlearning.candidate import Missing
from saetools.evaluate.unlearning.combined import (
    PARTS,
    combined_score,
    harmonic_mean,
    partial_score,
)
from saetools.evaluate.unlearning.divergence import kl, sentence_spans
from saetools.evaluate.unlearning.draws import Draws, question_draws
from saetools.evaluate.unlearning.efficacy import kept
from saetools.evaluate.unlearning.extraction import extraction_strength
from saetools.evaluate.unlearning.in_context import with_fact_in_context
from saetools.evaluate.unlearning.membership import ATTACKS, auc, lowest_mean, privacy_leak
from saetools.evaluate.unlearning.probes import ProbeRows, fit_probe
from saetools.evaluate.unlearning.relearning import split_for_relearning
from saetools.evaluate.unlearning.rouge import rouge_l
from saetools.evaluate.unlearning.texts import TextReading
from saetools.evaluate.unlearning.truth_ratio import ks_distance, log_truth_ratios

RNG = np.random.default_rng(0)
shares = st.floats(0, 1)


def draws_of(n: int, stream: str = "x") -> Draws:
    return Draws(np.arange(n, dtype=np.int64), stream=stream, n_draws=100, seed=0)


def exactly(value: float) -> Estimate:
    return Estimate(value, np.full(5, value))


def test_knowledge_kept_is_measured_from_chance() -> None:
    now, before, chance = np.array([0.25, 0.1, 1.0, 0.6]), np.array([1.0] * 4), np.array([0.25] * 4)
    assert kept(now, before, chance) == pytest.approx([0, 0, 1, 0.35 / 0.75])
    assert math.isnan(kept(np.float64(0.5), np.float64(0.2), np.float64(0.25)))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_the_harmonic_mean_is_scipys(parts: list[float]) -> None:
    assert float(harmonic_mean(*map(np.float64, parts))) == pytest.approx(hmean(parts))


@given(shares, shares, shares, shares)
def test_one_part_at_zero_makes_the_score_zero(a: float, b: float, c: float, d: float) -> None:
    names = [figure.name for figure in PARTS]
    values = dict(zip(names, map(exactly, (a, b, 0.0, c, d)), strict=True))
    assert combined_score(values).estimate.value == 0


def test_the_score_is_not_given_in_part() -> None:
    parts = {figure.name: exactly(0.8) for figure in PARTS[:-1]}
    with pytest.raises(Missing, match=PARTS[-1].name):
        combined_score(parts)
    rest = partial_score(parts)
    assert rest.figure.name == "partial_score"
    assert rest.estimate.value == pytest.approx(0.8)
    assert "not S" in rest.figure.meaning
    # ... unless what is missing cannot change it.
    parts[PARTS[0].name] = exactly(0.0)
    assert combined_score(parts).estimate.value == 0


@pytest.mark.parametrize(
    ("right", "strength"),
    [
        ([1, 1, 1, 1], 1.0),
        ([0, 1, 1, 1], 0.75),
        ([1, 0, 1, 1], 0.5),
        ([1, 1, 1, 0], 0.0),  # the reference says 1/4
        ([0, 0], 0.0),
        ([], 0.0),
    ],
)
def test_extraction_strength_counts_the_end_that_is_known(
    right: list[int], strength: float
) -> None:
    assert extraction_strength(np.array(right, dtype=bool)) == strength


@pytest.mark.parametrize(
    ("said", "truth", "precision", "recall"),
    [
        ("the cat sat", "the dog sat down", 2 / 3, 2 / 4),
        ("police killed the gunman", "police kill the gunman", 3 / 4, 3 / 4),  # Lin 2004
        ("the gunman kill police", "police kill the gunman", 2 / 4, 2 / 4),  # Lin 2004
        ("Ulm.", "ulm", 1, 1),
        ("", "ulm", 0, 0),
        ("oslo", "ulm", 0, 0),
    ],
)
def test_rouge_l_of_known_pairs(said: str, truth: str, precision: float, recall: float) -> None:
    found = rouge_l(said, truth)
    assert (found.precision, found.recall) == pytest.approx((precision, recall))
    both = precision + recall
    assert found.f1 == pytest.approx(2 * precision * recall / both if both else 0)


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_rouge_l_is_symmetric_but_for_precision_and_recall(a: list[str], b: list[str]) -> None:
    there, back = rouge_l(" ".join(a), " ".join(b)), rouge_l(" ".join(b), " ".join(a))
    assert (there.precision, there.recall, there.f1) == (back.recall, back.precision, back.f1)


def test_the_auc_is_sklearns_in_the_orientation_of_muse() -> None:
    holdout, forget = RNG.normal(size=40), RNG.normal(0.5, 1, size=30)
    found = auc(holdout, forget, (draws_of(40, "h"), draws_of(30, "f")))
    labels = [1] * 40 + [0] * 30  # 0 = forget, 1 = hold-out
    assert found.value == pytest.approx(roc_auc_score(labels, np.concatenate([holdout, forget])))
    assert found.draws.mean() == pytest.approx(found.value, abs=0.03)
    ties = auc(np.zeros(4), np.zeros(3), (draws_of(4, "h"), draws_of(3, "f")))
    assert ties.value == 0.5


@pytest.mark.parametrize(("now", "leak"), [(0.0, -100), (0.5, 0), (1.0, 100)])
def test_privacy_leak_is_signed(now: float, leak: float) -> None:
    # Memorised forget texts look more trained-on than hold-out texts: AUC 0, leak -100.
    assert privacy_leak(exactly(now), [exactly(0.4), exactly(0.6)]).value == pytest.approx(leak)


def test_min_k_takes_the_lowest_and_one_at_least() -> None:
    values = np.array([-1.0, -5.0, -3.0, -2.0, -4.0])
    assert lowest_mean(values, 0.4) == -4.5
    assert lowest_mean(values[:2], 0.4) == -5.0  # int(0.8) tokens would be none
    assert math.isnan(lowest_mean(np.empty(0), 0.4))


def test_attacks_score_what_was_trained_on_higher() -> None:
    def tokens(*values: float) -> np.ndarray:
        return np.array(values)

    # The first text is likelier; the same text twice compresses to the same length.
    reading = TextReading(
        texts=("one two three", "one two three"),
        logprob=(tokens(-0.1, -0.2, -0.1), tokens(-2.0, -3.0, -1.0)),
        right=(np.ones(3, dtype=bool), np.zeros(3, dtype=bool)),
        mean=(tokens(-1, -1, -1), tokens(-1, -1, -1)),
        spread=(tokens(0.5, 0.5, 0.5), tokens(0.5, 0.5, 0.5)),
    )
    for name, attack in ATTACKS.items():
        known, unknown = attack(reading, 0.4)
        assert known > unknown, name
    assert ATTACKS["min_k_plus"](reading, 0.4)[1] == pytest.approx((-3 + 1) / 0.5)
    assert ATTACKS["loss"](reading, 0.4)[0] == pytest.approx(-0.4 / 3)


def test_the_distance_of_the_ks_test_is_scipys() -> None:
    a, b = RNG.normal(size=24), RNG.normal(1, 1, size=24)
    found = ks_distance(a, b, draws_of(24))
    assert found.value == pytest.approx(ks_2samp(a, b).statistic)
    assert found.draws.min() >= 0
    assert found.draws.max() <= 1 + 1e-12


def test_the_truth_ratio_compares_geometric_means() -> None:
    question = Question("q", " a", (" b", " a", " c d"))
    logs = (np.log(0.2), np.log(0.6), np.log(0.04))
    answers = Answers(
        (question,),
        (np.array([logs[1]]),),
        (np.array([True]),),
        (np.array(logs),),
        (np.array([1.0, 1.0, 2.0]),),
    )
    wrong = math.sqrt(0.2 * math.sqrt(0.04))
    assert math.exp(log_truth_ratios(answers)[0]) == pytest.approx(wrong / 0.6)


def test_kl_is_scipys_and_survives_broken_logits() -> None:
    a, b = torch.randn(3, 7), torch.randn(3, 7)
    p, q = a.softmax(-1).numpy(), b.softmax(-1).numpy()
    assert kl(a, b).numpy() == pytest.approx(entropy(p, q, axis=-1), rel=1e-4)
    assert kl(a, a).max() == 0
    assert kl(a, torch.full_like(a, torch.nan)).min() > 1000
    with pytest.raises(Missing, match="vocabularies differ"):
        kl(a, b[:, :5])


def test_a_span_goes_from_a_name_to_the_end_of_its_sentence() -> None:
    text = "It rained. Then Zed Om met Zedekiah. He left. Zed Om slept"
    spans = [text[start:end] for start, end in sentence_spans(text, ["Zed Om"])]
    assert spans == ["Zed Om met Zedekiah.", "Zed Om slept"]
    assert sentence_spans(text, ["Zed"]) == sentence_spans(text, ["Zed Om"])
    assert sentence_spans("Zed costs 3.5 marks. Yes.", ["Zed"]) == [(0, 20)]


def test_a_logistic_probe_is_sklearns() -> None:
    torch.manual_seed(0)
    x = torch.randn(120, 6)
    y = (x[:, 0] > 0.3).long() + (x[:, 1] > 0.3).long()
    rows = ProbeRows(x, y, torch.ones(120, 3, dtype=torch.bool))
    probe = fit_probe(rows, "logistic", n_hidden=1, penalty=1e-2, seed=0)
    standard = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    # Ours: mean loss + penalty · ‖W‖²; sklearn's: C · sum of losses + ½ ‖W‖².
    theirs = LogisticRegression(C=1 / (2 * 120 * 1e-2), tol=1e-8, max_iter=5000)
    theirs.fit(standard, y)
    ours = torch.softmax(probe.network(torch.tensor(standard)), -1).detach().numpy()
    assert ours == pytest.approx(theirs.predict_proba(standard), abs=2e-3)


def test_a_hidden_layer_reads_what_no_line_can() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 2)
    y = (x[:, 0] * x[:, 1] > 0).long()
    allowed = torch.ones(400, 2, dtype=torch.bool)
    train = ProbeRows(x[:300], y[:300], allowed[:300])

    def accuracy(kind: str) -> float:
        probe = fit_probe(train, kind, n_hidden=32, penalty=1e-4, seed=0)
        return float((probe.predict(x[300:], allowed[300:]) == y[300:]).float().mean())

    assert accuracy("mlp") > 0.9
    assert accuracy("logistic") < 0.7


def test_a_probe_chooses_among_the_values_of_the_attribute() -> None:
    x = torch.randn(40, 3)
    y = torch.arange(40) % 4
    allowed = torch.zeros(40, 4, dtype=torch.bool)
    allowed[torch.arange(40), y] = True
    probe = fit_probe(ProbeRows(x, y, allowed), "logistic", n_hidden=1, penalty=0.1, seed=0)
    assert torch.equal(probe.predict(x, allowed), y)


def test_entities_are_drawn_and_not_questions() -> None:
    questions = [Question("q", " a", entity=name) for name in "aaab"]
    draws = question_draws(questions, stream="x", n_draws=50, seed=0)
    means = draws.mean([1, 1, 1, 0]).draws
    # Two entities: both, twice the one, or twice the other.
    assert set(np.round(means, 6)) == {0.0, 0.75, 1.0}
    assert draws.mean([1, 1, 1, 0]).value == 0.75
    assert draws.mean([1, 0, 5, 0], where=[True, True, False, False]).value == 0.5


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(200):
        values = np.random.default_rng(trial).normal(size=40)
        draws = Draws(np.arange(40, dtype=np.int64), stream="x", n_draws=200, seed=trial)
        low, high = np.quantile(draws.mean(values).draws, [0.025, 0.975])
        covered += low <= 0 <= high
    assert 0.88 < covered / 200 < 0.99


def test_relearning_teaches_and_asks_different_entities() -> None:
    questions = [Question(f"{e} {i}", " a", entity=e) for e in "abcdefghij" for i in range(3)]
    taught, asked = split_for_relearning(questions, fraction=0.2, seed=0)
    assert len({q.entity for q in taught}) == 2
    assert not {q.entity for q in taught} & {q.entity for q in asked}
    assert len(taught) + len(asked) == 30
    with pytest.raises(Missing, match="two forget facts"):
        split_for_relearning(questions[:1], fraction=0.2, seed=0)


def test_relearning_of_one_entity_teaches_and_asks_different_facts() -> None:
    forms = ("statement", "cloze")
    questions = [
        Question("q", " a", entity="Zed", attribute=a, form=f) for a in "uvwxy" for f in forms
    ]
    taught, asked = split_for_relearning(questions, fraction=0.2, seed=0)
    assert len(taught) == 2
    assert not {q.attribute for q in taught} & {q.attribute for q in asked}
    nameless = [Question(f"q {i}", " a") for i in range(10)]
    taught, asked = split_for_relearning(nameless, fraction=0.2, seed=0)
    assert (len(taught), len(asked)) == (2, 8)


def test_the_fact_in_context_is_told_in_another_form() -> None:
    told = Question("Zed lives in", " Ulm", (" Ulm", " Oslo"), "Zed", "town", "statement")
    asked = Question("Where is Zed? In", " Ulm", (" Ulm", " Oslo"), "Zed", "town", "question")
    lone = Question("Zed keeps a", " cat", (" cat",), "Zed", "pet", "statement")
    found = with_fact_in_context([told, asked, lone])
    assert [q.prompt for q in found] == [
        "Where is Zed? In Ulm.\nZed lives in",
        "Zed lives in Ulm.\nWhere is Zed? In",
    ]
