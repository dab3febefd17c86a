"""Texts that `saetools concept` is given in files, and the names that a run has."""

import json
from pathlib import Path

from saetools.cli.run import RunFolder
from saetools.errors import ConfigError, FormatError

__all__ = ["names_of", "one_label", "two_classes"]


def names_of(run: RunFolder) -> dict[int, str] | None:
    """Name of each latent that has one; None if the run was not named."""
    from saetools.naming import NamesTable  # heavy: torch

    table = run.load_if_finished("name", NamesTable.load)
    return None if table is None else {row.latent: row.name for row in table}


def two_classes(
    positive: Path | None, negative: Path | None, texts: Path | None, label: str | None
) -> tuple[list[str], list[str]]:
    """Texts with and without a concept: from two files, or from one with labels."""
    from saetools.corpus import load_labelled  # heavy: numpy

    if positive is not None and negative is not None:
        return _lines(positive), _lines(negative)
    if texts is None or label is None:
        raise ConfigError("give --positive with --negative, or --texts with --label")
    held = load_labelled(texts)
    member = held.has(label)
    plain = [str(text) for text in held.texts]
    return (
        [text for text, has in zip(plain, member, strict=True) if has],
        [text for text, has in zip(plain, member, strict=True) if not has],
    )


def one_label(path: Path) -> tuple[list[str], list[str | None]]:
    """Texts of a file with their label; none where a text has several labels, or no label."""
    from saetools.corpus import load_labelled  # heavy: numpy

    held = load_labelled(path)
    labels = [next(iter(names)) if len(names) == 1 else None for names in held.labels]
    return [str(text) for text in held.texts], labels


def _lines(path: Path) -> list[str]:
    """Texts of a file: one a line, or the `text` of each line of JSON."""
    from saetools.corpus.formats.lines import text_lines  # heavy: numpy

    if not path.is_file():
        raise ConfigError(f"there is no file {path}; give texts, one a line, or JSON lines")
    found = []
    for number, line in text_lines(path, errors="strict"):
        text: object = line.strip()
        if ".jsonl" in path.suffixes and text:
            try:
                row = json.loads(line)
                text = row["text"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise FormatError(
                    f"{path.name}, line {number}: expected a JSON object with a `text` ({error})"
                ) from error
        if text:
            found.append(str(text))
    return found
