"""A chat asks nothing twice, no more than allowed, again where that helps, and tells no key."""

import json

import pytest

from saetools.errors import ChatError
from saetools.naming.chat import (
    Budget,
    Budgeted,
    BudgetSpentError,
    Patient,
    Remembered,
    TryAgainError,
    n_tokens_of,
)
from saetools.naming.chat_local import LocalChat
from saetools.naming.chat_server import ServerChat
from saetools.testing.tiny import tiny_lm

ASK = [{"role": "user", "content": "Say yes."}]
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def chat(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    return ServerChat(server.url, "small", api_key_env="MY_KEY", max_answer=40)


def test_a_server_is_asked_in_its_protocol(server, chat):
    assert chat(ASK) == "yes"
    [(path, authorization, body)] = server.seen
    assert path == "/v1/chat/completions"
    assert authorization == f"Bearer {KEY}"
    assert body["messages"] == ASK
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("small", 0, 40)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_with_longer_waits(server, chat, status):
    server.failures = [(status, "{}")] * 3
    waited = []
    assert Patient(chat, wait=0.5, sleep=waited.append)(ASK) == "yes"
    assert waited == [0.5, 1.0, 2.0]
    assert len(server.seen) == 4


def test_in_the_end_a_busy_server_is_an_error(server, chat):
    server.failures = [(503, "{}")] * 9
    with pytest.raises(TryAgainError, match="small at http"):
        Patient(chat, n_retries=2, sleep=lambda _: None)(ASK)
    assert len(server.seen) == 3


def test_a_refusal_is_not_asked_again_and_tells_no_key(server, chat):
    server.failures = [(401, json.dumps({"error": {"message": f"wrong key {KEY}"}}))]
    with pytest.raises(ChatError, match=r"\$MY_KEY") as refused:
        Patient(chat, sleep=lambda _: None)(ASK)
    assert len(server.seen) == 1
    assert KEY not in str(refused.value)
    assert "***" in str(refused.value)
    assert KEY not in repr(chat)


@pytest.mark.parametrize("answer", [{"choices": []}, {"choices": [{"message": {}}]}, {"no": 1}])
def test_an_answer_without_text_is_an_error(server, chat, answer):
    server.answer = answer
    with pytest.raises(ChatError, match="small at http"):
        chat(ASK)


def test_nobody_at_the_address_is_said(server, chat):
    server.close()
    with pytest.raises(TryAgainError, match="is it running"):
        chat(ASK)


def test_without_openai_the_extra_is_named(server, chat, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ChatError, match=r"saetools\[llm\]"):
        chat(ASK)


def test_what_was_answered_is_not_asked_again(server, chat, tmp_path):
    key = {"model": "small", "temperature": 0}
    first = Remembered(chat, tmp_path / "answers", key)
    assert not first.knows(ASK)
    assert first(ASK) == "yes"
    again = Remembered(chat, tmp_path / "answers", key)
    assert again.knows(ASK)
    assert again(ASK) == "yes"
    assert len(server.seen) == 1
    Remembered(chat, tmp_path / "answers", {**key, "model": "large"})(ASK)
    again([*ASK, *ASK])
    assert len(server.seen) == 3, "another model or message is another question"
    files = list((tmp_path / "answers").iterdir())
    assert len(files) == 3
    assert not any(KEY in file.read_text() for file in files)


def test_a_damaged_answer_is_asked_for_anew(server, chat, tmp_path):
    remembered = Remembered(chat, tmp_path, {})
    remembered(ASK)
    [file] = tmp_path.iterdir()
    for damage in ("", "{", "[]", '{"answer": 3}'):
        file.write_text(damage)
        assert remembered(ASK) == "yes"
    assert len(server.seen) == 5


def test_a_budget_stops_before_it_is_passed():
    asked = []

    def answer(messages):
        asked.append(messages)
        return "ok"

    chat = Budgeted(answer, Budget(max_requests=2))
    assert [chat(ASK), chat(ASK)] == ["ok", "ok"]
    with pytest.raises(BudgetSpentError, match="3 requests, and 2 are allowed"):
        chat(ASK)
    assert len(asked) == 2
    tokens = n_tokens_of(ASK)
    assert tokens == 2  # 8 characters
    budget = Budget(max_tokens=3 * (tokens + 10))
    chat = Budgeted(answer, budget, max_answer=10)
    for _ in range(3):
        chat(ASK)
    with pytest.raises(BudgetSpentError, match="max_tokens"):
        chat(ASK)
    assert (budget.n_requests, budget.n_tokens) == (3, 36)


def test_what_is_remembered_costs_no_budget(tmp_path):
    budget = Budget(max_requests=1)
    chat = Remembered(Budgeted(lambda _: "ok", budget), tmp_path, {})
    assert [chat(ASK) for _ in range(3)] == ["ok"] * 3
    assert budget.n_requests == 1


def test_a_local_model_continues_greedily():
    """Plumbing only: the tiny model's words mean nothing."""
    model = tiny_lm()
    told = model.generate("user: Say yes.\n\nassistant:", 8, use_cache=False)
    answer = LocalChat(model, max_answer=8)(ASK)
    assert answer
    assert told == "user: Say yes.\n\nassistant:" + answer


def test_a_local_model_gets_its_own_chat_template():
    model = tiny_lm()
    plain = LocalChat(model, max_answer=8)(ASK)
    model.tokenizer.chat_template = (
        "{% for message in messages %}<s>{{ message['content'] }}{% endfor %}"
    )
    assert LocalChat(model, max_answer=8)(ASK) != plain


def test_messages_that_do_not_fit_are_refused():
    with pytest.raises(ChatError, match=r"do not fit into the 128 of 'tiny'"):
        LocalChat(tiny_lm(), max_answer=8)([{"role": "user", "content": "long " * 200}])


def test_an_encoder_cannot_answer():
    with pytest.raises(ChatError, match="text_encoder"):
        LocalChat.load("tiny-encoder")
