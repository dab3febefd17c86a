"""Files of questions: what is written is read, and strangers' files are read or refused by line."""

from pathlib import Path

import pytest

from saetools.corpus import Question, load_questions, save_questions
from saetools.errors import FormatError

SHARED = Path(__file__).resolve().parents[3] / "shared"


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    questions = (
        Question("Zed lives in", " Øre", (" Øre", " Ulm"), "Zed", "town", "statement"),
        Question("Where does Zed live?", " Øre"),
    )
    save_questions(questions, tmp_path / "q.jsonl")
    assert load_questions(tmp_path / "q.jsonl") == questions
    assert questions[0].chance == 0.5
    assert questions[1].chance is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: not a JSON object"),
        ("[]", "expected a JSON object, found list"),
        ('{"prompt": "a"}', "no answer, found prompt"),
        ('{"prompt": "a", "answer": "b", "options": ["c"]}', "not among the options"),
        ('{"prompt": 3, "answer": "b"}', "prompt must be text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "q.jsonl").write_text(f'{{"prompt": "a", "answer": " b"}}\n{line}\n')
    with pytest.raises(FormatError, match=says):
        load_questions(tmp_path / "q.jsonl")


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("\n")
    with pytest.raises(FormatError, match="no question"):
        load_questions(tmp_path / "q.jsonl")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_questions_and_answers_of_others_are_read() -> None:
    questions = load_questions(SHARED / "labelled" / "tofu_forget.jsonl")
    assert len(questions) == 300
    assert questions[0].prompt.startswith("Question: What is the full name")
    assert questions[0].answer == " The author's full name is Hsiao Yun-Hwa."


def test_a_file_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="there is no file"):
        load_questions(tmp_path / "nofile.jsonl")
