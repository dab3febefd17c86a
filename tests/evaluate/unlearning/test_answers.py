"""Questions and texts are read exactly: a bigram table says beforehand what must come out."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from saetools.corpus import Question
from saetools.errors import ConfigError
from saetools.evaluate.unlearning.answers import FLOOR, continuations, read_answers
from saetools.evaluate.unlearning.generate import continue_greedily
from saetools.evaluate.unlearning.texts import read_texts


@pytest.fixture
def table(random_model, make_candidate):
    """A bigram model with random logits."""
    model = random_model(0)
    n = len(model.tokenizer)
    logits = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return make_candidate.Table(model, logits)


def by_hand(table, words: str) -> np.ndarray:
    """Log-probability of each word of a text after the word (or BOS) before it."""
    ids = [table.tokenizer.bos_token_id, *table.tokenizer(words)["input_ids"]]
    scores = torch.log_softmax(table.table, -1)
    return np.array([float(scores[a, b]) for a, b in pairwise(ids)])


TOWNS = (" Ulm", " Oslo", " Lima")


@pytest.mark.parametrize("batch_tokens", [1, 7, 500])
def test_an_answer_has_the_probability_of_its_tokens(table, batch_tokens: int) -> None:
    questions = [
        Question("Ar ban lives in", " Oslo", TOWNS, "Ar ban", "town"),
        Question("the wind", " looks at the hill", (" looks at the hill", " walks"), "w", "a"),
        Question("a", " cat"),
    ]
    answers = read_answers(table, questions, batch_tokens=batch_tokens)
    tokens = by_hand(table, "the wind looks at the hill")[2:]
    assert answers.token_logprob[1] == pytest.approx(tokens, abs=1e-5)
    assert answers.probability[1] == pytest.approx(np.exp(tokens.mean()), rel=1e-4)
    assert answers.option_tokens[1].tolist() == [4, 1]
    of_towns = [by_hand(table, f"Ar ban lives in{town}")[-1] for town in TOWNS]
    assert answers.option_logprob[0] == pytest.approx(of_towns, abs=1e-5)
    shares = np.exp(of_towns) / np.exp(of_towns).sum()
    assert answers.option_probability[0] == pytest.approx(shares[1], rel=1e-4)
    assert answers.right[0] == float(np.argmax(of_towns) == 1)
    cat = table.tokenizer.convert_tokens_to_ids("cat")
    a = table.tokenizer.convert_tokens_to_ids("a")
    assert answers.exact[2] == answers.right[2] == float(table.table[a].argmax() == cat)
    assert answers.chance.tolist() == [1 / 3, 1 / 2, 0]


def test_options_that_tie_share_the_point(random_model, make_candidate) -> None:
    constant = make_candidate.Constant(random_model(0), "constant")
    first = [Question("a", town, TOWNS) for town in TOWNS]
    assert read_answers(constant, first, batch_tokens=99).right == pytest.approx(1 / 3)


def test_logits_that_are_not_numbers_predict_nothing(random_model, make_candidate) -> None:
    model = random_model(0)
    n = len(model.tokenizer)
    broken = make_candidate.Table(model, torch.full((n, n), torch.nan))
    answers = read_answers(broken, [Question("a", " Ulm", TOWNS)], batch_tokens=99)
    assert answers.token_logprob[0].tolist() == [FLOOR]
    assert read_texts(broken, ["the wind"], batch_tokens=99).loss_sum.tolist() == [-2 * FLOOR]


def test_a_question_that_does_not_fit_is_refused(random_model) -> None:
    with pytest.raises(ConfigError, match="shorten the prompt"):
        continuations(random_model(0), [("a " * 80, "cat")])


@pytest.mark.parametrize("batch_tokens", [1, 13, 500])
def test_a_text_is_read_token_by_token(table, batch_tokens: int) -> None:
    texts = ["the wind walks to the river .", "a", "some tree looks at a gate ."]
    reading = read_texts(table, texts, batch_tokens=batch_tokens)
    scores = torch.log_softmax(table.table, -1)
    for i, text in enumerate(texts):
        assert reading.logprob[i] == pytest.approx(by_hand(table, text), abs=1e-5)
        before = [table.tokenizer.bos_token_id, *table.tokenizer(text)["input_ids"]][:-1]
        p = scores[before].exp().numpy()
        log_p = scores[before].numpy()
        mean = (p * log_p).sum(1)
        assert reading.mean[i] == pytest.approx(mean, abs=1e-5)
        spread = np.sqrt((p * (log_p - mean[:, None]) ** 2).sum(1))
        assert reading.spread[i] == pytest.approx(spread, abs=1e-4)
        after = [*before[1:], table.tokenizer(text)["input_ids"][-1]]
        assert (
            reading.right[i].tolist() == (scores[before].argmax(-1) == torch.tensor(after)).tolist()
        )


@pytest.mark.parametrize("batch_tokens", [1, 40, 500])
def test_greedy_continuation_follows_the_largest_logit(table, batch_tokens: int) -> None:
    prompts = [[1, 9, 20], [1, 5], [1, 11, 12, 13, 14]]
    wanted = []
    for prompt, n in zip(prompts, (5, 2, 0), strict=True):
        row = list(prompt)
        for _ in range(n):
            row.append(int(table.table[row[-1]].argmax()))
        wanted.append(row[len(prompt) :])
    got = continue_greedily(table, prompts, (5, 2, 0), batch_tokens=batch_tokens)
    assert got == wanted


def test_generation_agrees_with_the_models_own(original) -> None:
    prompt = "Ar ban lives in"
    whole = original.generate(prompt, 4)
    ids = original.tokenize([prompt]).ids[0].tolist()
    (said,) = continue_greedily(original, [ids], [4], batch_tokens=500)
    assert original.tokenizer.decode(ids + said, skip_special_tokens=True) == whole
