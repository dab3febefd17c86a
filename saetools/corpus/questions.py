"""Questions whose answer is known, and files of them.

A file of questions has one JSON object a line: `prompt` and `answer`, which stand one after the
other in a text, and what is known of them: `options` (the answers that the truth was drawn from),
`entity`, `attribute`, `form` (how it is asked: statement, cloze, ...). Files of `question` and
`answer` are read too, as "Question: ...\\nAnswer: ...".
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saetools.errors import FormatError

__all__ = ["Question", "load_questions", "save_questions"]

_WRITTEN = ("prompt", "answer")
_TEXTS = ("prompt", "answer", "entity", "attribute", "form")


@dataclass(frozen=True)
class Question:
    """One fact asked in one form.

    Args:
        prompt: the text that the answer goes on from.
        answer: the right continuation, with the space it begins with.
        options: answers that the truth was drawn from, the right one among them; () if unknown.
        entity: what the fact is about, "" if unknown.
        attribute: what is asked of it, "" if unknown.
        form: the manner of asking, "" if there is one only.
    """

    prompt: str
    answer: str
    options: tuple[str, ...] = ()
    entity: str = ""
    attribute: str = ""
    form: str = ""

    @property
    def chance(self) -> float | None:
        """Share of right answers of one who knows nothing; None without options."""
        return 1 / len(self.options) if self.options else None


def load_questions(path: str | Path) -> tuple[Question, ...]:
    """The questions of a JSONL file.

    Raises:
        FormatError: there is no such file, a line is no JSON object, or lacks prompt (or question)
            and answer, or its options do not hold the answer.
    """
    found = []
    if not Path(path).is_file():
        raise FormatError(
            f"questions: there is no file '{path}'; give a .jsonl file with a `prompt` and an "
            "`answer` a line"
        )
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                found.append(_question(line, f"{Path(path).name}, line {number}"))
    if not found:
        raise FormatError(f"{Path(path).name} holds no question; write one JSON object a line")
    return tuple(found)


def save_questions(questions: Iterable[Question], path: str | Path) -> None:
    """Write a file that `load_questions` reads."""
    rows = (json.dumps(asdict(question), ensure_ascii=False) for question in questions)
    Path(path).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def _question(line: str, where: str) -> Question:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise FormatError(
            f"{where}: not a JSON object ({error.msg} at column {error.colno})"
        ) from error
    if not isinstance(row, dict):
        raise FormatError(f"{where}: expected a JSON object, found {type(row).__name__}")
    if "prompt" not in row and isinstance(row.get("question"), str):
        row = _asked(row)
    missing = [name for name in _WRITTEN if not row.get(name)]
    if missing:
        raise FormatError(
            f"{where}: no {' and no '.join(missing)}, found {', '.join(row) or 'nothing'}; a "
            "question has prompt and answer, or question and answer"
        )
    known = {name: row[name] for name in _TEXTS if row.get(name) is not None}
    wrong = [name for name, value in known.items() if not isinstance(value, str)]
    options = row.get("options") or ()
    if wrong or not all(isinstance(option, str) for option in options):
        raise FormatError(f"{where}: {', '.join(wrong) or 'options'} must be text")
    if options and row["answer"] not in options:
        raise FormatError(f"{where}: the answer {row['answer']!r} is not among the options")
    return Question(**known, options=tuple(options))


def _asked(row: Mapping[str, Any]) -> dict[str, Any]:
    more = {} if not row.get("answer") else {"answer": f" {str(row['answer']).lstrip()}"}
    return {**row, "prompt": f"Question: {row['question'].strip()}\nAnswer:", **more}
