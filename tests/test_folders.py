"""A folder is written whole or not at all."""

from pathlib import Path

import pytest

from saetools.errors import FormatError
from saetools.folders import whole_folder


def _write(folder: Path, text: str) -> None:
    with whole_folder(folder, mark="mark", what="a thing") as scratch:
        (scratch / "mark").write_text(text)


def _files(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): f.read_text() for f in folder.rglob("*") if f.is_file()}


def test_a_folder_of_the_same_kind_is_replaced_whole(tmp_path: Path) -> None:
    _write(tmp_path / "a", "old")
    (tmp_path / "a" / "more").write_text("of the old one")
    _write(tmp_path / "a", "new")
    assert _files(tmp_path) == {"a/mark": "new"}


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_what_was_there_stays_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    _write(tmp_path / "a", "old")

    def fail() -> None:
        with whole_folder(tmp_path / "a", mark="mark", what="a thing") as scratch:
            (scratch / "mark").write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert _files(tmp_path) == {"a/mark": "old"}


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to_mother").write_text("dear")
    with pytest.raises(FormatError, match=r"will not save a thing over .*letters: it holds other"):
        _write(tmp_path / "letters", "new")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FormatError):
        _write(tmp_path / "file", "new")
    assert _files(tmp_path) == {"letters/to_mother": "dear", "file": "mine"}
