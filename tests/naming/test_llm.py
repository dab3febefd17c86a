"""A language model is shown training contexts only, as the prompt says, and within its budget."""

import logging
import re
import time
from functools import partial

import pytest

from saetools.analysis import Context
from saetools.errors import ChatError, ConfigError
from saetools.naming import name_latents, preview_names
from saetools.naming.chat import Patient
from saetools.naming.explain_prompt import explanation_in, messages_for, shown
from saetools.naming.silence import silent_contexts
from saetools.testing.tiny import tiny_lm


class Recorder:
    """A chat that answers with what it can read off: the marked words of the last message."""

    def __init__(self, answer=None):
        self.asked = []
        self._answer = answer

    def __call__(self, messages):
        self.asked.append(messages)
        if self._answer is not None:
            return self._answer
        words = re.findall(r"<<(.+?)>>", messages[-1]["content"])
        return "Thinking.\n[EXPLANATION]: " + max(set(words), key=words.count)


def test_a_name_is_what_the_model_says(planted, number):
    names = name_latents(planted, namer="llm", chat=Recorder())
    name = names.get(number("token"))
    assert (name.name, name.namer, name.confidence) == ("pen", "llm", 0.5)
    assert "training contexts" in name.rationale
    assert name.unit is None
    assert names.get(number("dead")) is None


def test_only_training_contexts_are_shown(planted, number):
    chat = Recorder()
    latent = number("topic")
    name_latents(planted, namer="llm", chat=chat, latents=[latent], n_examples=8)
    [messages] = chat.asked
    texts = re.findall(r"^Text \d+: (.*)$", messages[-1]["content"], flags=re.MULTILINE)
    known = {
        shown(context)
        for kind in ("top", "spread")
        for context in planted.examples(latent, kind=kind)
    }
    assert len(texts) == 8
    assert set(texts) <= known
    held = {shown(context) for context in planted.examples(latent, kind="held_out")}
    assert not set(texts) & (held - known)


def test_the_prompt_has_the_parts_that_it_promises():
    context = Context([" the", " old", " pen", " box"], [0.0, 0.1, 4.0, 2.0], 2, 0, None, None)
    silent = Context([" a", " box"], [0.0, 0.0], 0, 1, None, None)
    plain = messages_for([context])
    assert [m["role"] for m in plain] == ["system", *["user", "assistant"] * 3, "user"]
    assert plain[-1]["content"] == "Text 1: the old <<pen box>>"
    assert all("[EXPLANATION]: " in m["content"] for m in plain if m["role"] == "assistant")
    assert "Activations" not in str(plain)
    assert "silent" not in str(plain)
    full = messages_for([context], activations=True, silent=[silent])
    assert 'Activations: ("pen", 10), ("box", 5)' in full[-1]["content"]
    assert full[-1]["content"].endswith("The latent is silent in these:\nText 1: a box")
    assert 'Activations: ("waited", 10), ("hoped", 7)' not in full[1]["content"]
    assert '("waited", 10)' in full[1]["content"]


def test_marks_in_the_text_mark_nothing():
    context = Context([" cout", " <<", " x", "\n", " y >>"], [0, 0, 3.0, 0, 0], 2, 0, None, None)
    assert shown(context) == "cout < < <<x>>  y > >"


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("[EXPLANATION]: birds", "birds"),
        ("a\n[EXPLANATION]: first\nno\n[explanation]:   the  last \nmore", "the last"),
        ("birds", None),
        ("[EXPLANATION]:\nbirds", None),
        ("[EXPLANATION]: " + "x" * 500, "x" * 200),
    ],
)
def test_the_name_is_behind_the_last_mark(answer, name):
    assert explanation_in(answer) == name


def test_an_answer_without_a_mark_gives_no_name_and_a_warning(planted, caplog):
    with caplog.at_level(logging.WARNING):
        names = name_latents(planted, namer="llm", chat=Recorder("I do not know."))
    assert len(names) == 0
    assert "have no line [EXPLANATION]" in caplog.text


def test_a_spent_budget_keeps_what_was_answered(planted, caplog):
    chat = Recorder()
    with caplog.at_level(logging.WARNING):
        names = name_latents(planted, namer="llm", chat=chat, max_requests=3)
    assert len(names) == len(chat.asked) == 3
    assert f"3 of {len(planted.live)} latents were named" in caplog.text
    assert len(name_latents(planted, namer="llm", chat=Recorder(), max_tokens=0)) == 0


def test_a_chat_that_breaks_keeps_what_was_answered_and_one_that_never_works_is_an_error(
    planted, caplog
):
    class Breaks(Recorder):
        def __call__(self, messages):
            if len(self.asked) == 2:
                raise ChatError("gone")
            return super().__call__(messages)

    with caplog.at_level(logging.WARNING):
        assert len(name_latents(planted, namer="llm", chat=Breaks())) == 2
    assert "gone" in caplog.text

    def never(messages):
        raise ChatError("wrong key")

    with pytest.raises(ChatError, match="wrong key"):
        name_latents(planted, namer="llm", chat=never)


def test_a_run_that_is_stopped_sends_no_more_than_is_on_its_way(planted):
    class Stopped(Recorder):
        def __call__(self, messages):
            super().__call__(messages)
            if len(self.asked) > 1:
                time.sleep(0.2)  # long enough to be noticed before the next
            raise KeyboardInterrupt

    chat = Stopped()
    with pytest.raises(KeyboardInterrupt):
        name_latents(planted, namer="llm", chat=chat)
    assert len(chat.asked) < len(planted.live)


def test_nobody_to_ask_is_said(planted):
    with pytest.raises(ConfigError, match="nobody to ask"):
        name_latents(planted, namer="llm")


@pytest.mark.parametrize("near", [False, True])
def test_silent_contexts_are_silent_and_of_training(planted, number, near):
    latent = number("token")
    found = silent_contexts(planted, latent, n=6, near=near)
    assert len(found) == 6
    for context in found:
        assert max(context.acts) == 0
        assert not planted.docs.held_out[context.doc]
        assert " pen" not in context.tokens
    assert len({context.doc for context in found}) == 6
    assert found == silent_contexts(planted, latent, n=6, near=near)
    if near:
        others = [other for other, _ in planted.decoder_neighbours.of(latent)]
        fires = [
            any(max(planted.context_at(o, c.doc, _place(planted, c)).acts) > 0 for o in others)
            for c in found
        ]
        assert all(fires)


def _place(index, context):
    tokens = index.tokens_of(context.doc)
    n = len(context.tokens)
    start = next(i for i in range(len(tokens)) if tokens[i : i + n] == context.tokens)
    return start + context.peak


def test_a_contrast_shows_them(planted, number):
    chat = Recorder()
    name_latents(planted, namer="llm", chat=chat, latents=[number("token")], contrast="silent")
    told = chat.asked[0][-1]["content"].split("The latent is silent in these:")
    assert len(told) == 2
    assert "<<" not in told[1]


def test_a_preview_asks_nobody_and_tells_prompts_and_sizes(planted, number, tmp_path):
    chat = Recorder()
    ask = {"namer": "llm", "chat": chat, "latents": [number("token"), number("bigram")]}
    text = preview_names(planted, **ask)
    assert not chat.asked
    assert text.startswith("2 latents to name; 0 answers are there, 2 to be asked for: about ")
    assert "<<pen>>" in text
    assert "[EXPLANATION]" in text
    assert preview_names(planted, namer="top_tokens") == ""
    several = preview_names(
        planted, namer="first_of", namers=["labels", "llm"], latents=[number("token")]
    )
    assert "llm: 1 latents to name" in several


def test_a_model_on_this_machine_is_asked_once(planted, number, tmp_path, caplog):
    """Plumbing only: a random model says nothing that is a name."""
    model = tiny_lm()
    model.hf.config.max_position_embeddings = 16_384
    model.tokenizer.model_max_length = 16_384
    folder = tmp_path / "model"
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    ask = {"namer": "llm", "llm": str(folder), "max_answer": 16, "n_examples": 2}
    ask |= {"latents": [number("token")], "cache": tmp_path / "cache"}
    with caplog.at_level(logging.WARNING):
        names = name_latents(planted, **ask)
    assert len(names) == 0
    assert "1 answers have no line" in caplog.text
    assert len(list((tmp_path / "cache" / "answers").iterdir())) == 1
    assert "1 answers are there, 0 to be asked" in preview_names(planted, **ask)


def test_a_server_names_them_once_and_the_key_is_nowhere(planted, server, tmp_path, monkeypatch):
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.answer["choices"][0]["message"]["content"] = "[EXPLANATION]: things"
    server.failures = [(429, "{}")]
    monkeypatch.setattr("saetools.naming.namers.llm.Patient", partial(Patient, sleep=_no_wait))
    ask = {"namer": "llm", "base_url": server.url, "llm": "small", "cache": tmp_path}
    names = name_latents(planted, **ask)
    n_live = len(planted.live)
    assert len(names) == n_live
    assert {name.name for name in names} == {"things"}
    assert "said by small" in names.get(0).rationale
    assert len(server.seen) == n_live + 1, "one was asked again"
    assert name_latents(planted, **ask) == names
    assert len(server.seen) == n_live + 1, "nothing was asked twice"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == n_live
    assert not any(key in path.read_text() for path in files)


def _no_wait(seconds):
    assert seconds > 0
