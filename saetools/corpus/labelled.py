"""Texts with the concepts that each of them has: from a JSON-lines file, or from a corpus.

A file has one JSON object a line: `text`, and its concepts under `concepts`, `labels` or `label`
(or a field that is named): a list of names, one name, or null for none. A text may have several
concepts, or none; a concept that a text does not list is one that it does not have.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.corpus.base import Corpus
from saetools.corpus.formats.lines import text_lines
from saetools.errors import ConfigError, FormatError, UnknownNameError, nearest

__all__ = ["LABEL_FIELDS", "LabelledTexts", "load_labelled"]

LABEL_FIELDS = ("concepts", "labels", "label")
"""Fields that hold a text's concepts, where none is named; the first that a file has is read."""


@dataclass(frozen=True, repr=False)
class LabelledTexts:
    """Texts in a fixed order, each with a set of concepts.

    Args:
        texts: the texts; token ids in the place of a text where the corpus has those.
        labels: concepts of each text, empty for none.
        name: what the data set is called in reports.
    """

    texts: tuple[str | tuple[int, ...], ...]
    labels: tuple[frozenset[str], ...]
    name: str

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ConfigError(
                f"labelled texts '{self.name}': {len(self.texts):,} texts and {len(self.labels):,} "
                "sets of concepts; give every text one set, empty for none"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"LabelledTexts({self.name!r}, {len(self):,} texts, {len(self.counts):,} concepts)"

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of texts of each concept, most frequent first."""
        found = Counter(concept for labels in self.labels for concept in labels)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def has(self, concept: str) -> npt.NDArray[np.bool_]:
        """Which texts have a concept, (n_texts,).

        Raises:
            UnknownNameError: none has.
        """
        if concept not in self.counts:
            raise UnknownNameError(
                f"no text of '{self.name}' has the concept {concept!r}; nearest: "
                f"{', '.join(nearest(concept, self.counts)) or 'there are no concepts'}"
            )
        return np.array([concept in labels for labels in self.labels])

    @classmethod
    def of_corpus(cls, corpus: Corpus) -> "LabelledTexts":
        """The documents of a corpus, each with its label as its one concept."""
        return cls(
            tuple(document.content for document in corpus),
            tuple(frozenset(() if label is None else (label,)) for label in corpus.labels),
            corpus.name,
        )


def load_labelled(path: str | Path, *, field: str | None = None) -> LabelledTexts:
    """Read a .jsonl or .jsonl.gz file of labelled texts; blank texts are left out.

    Args:
        path: the file.
        field: the field that holds the concepts; by default the first of `concepts`, `labels` and
            `label` that the file's first line has.

    Raises:
        ConfigError: there is no such file, or its lines have no such field.
        FormatError: a line is no JSON object, or its text or its concepts are of another kind.

    >>> load_labelled("goemotions.jsonl.gz")          # doctest: +SKIP
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"labelled texts: there is no file '{path}'; give a .jsonl or .jsonl.gz file with a "
            "`text` and its concepts a line"
        )
    texts: list[str] = []
    labels: list[frozenset[str]] = []
    for number, line in text_lines(path, errors="strict"):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        row = _row(line, where)
        field = field or _label_field(row, where)
        text, concepts = _text(row, where), _concepts(row, field, where)
        if text.strip():
            texts.append(text)
            labels.append(concepts)
    if not any(labels):
        raise FormatError(
            f"{path.name}: {len(texts):,} texts, and none has a concept; name the field that holds "
            "the concepts, or give another file"
        )
    return LabelledTexts(tuple(texts), tuple(labels), path.name.split(".")[0])


def _row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise FormatError(
            f"{where}: a file of labelled texts has one JSON object a line; this one does not "
            f"parse ({error.msg} at column {error.colno}); repair or remove it"
        ) from error
    if not isinstance(row, dict):
        raise FormatError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row


def _label_field(row: Mapping[str, Any], where: str) -> str:
    for name in LABEL_FIELDS:
        if name in row:
            return name
    raise ConfigError(
        f"{where}: no field {', '.join(LABEL_FIELDS)}; fields found: {', '.join(row) or 'none'}; "
        "name the one that holds the concepts"
    )


def _text(row: Mapping[str, Any], where: str) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        raise FormatError(
            f"{where}: `text` must be a text, found {text!r:.60}; fields found: {', '.join(row)}"
        )
    return text


def _concepts(row: Mapping[str, Any], field: str, where: str) -> frozenset[str]:
    if field not in row:
        raise ConfigError(
            f"{where}: no field '{field}'; fields found: {', '.join(row)}; name the one that holds "
            "the concepts, and give it on every line ([] for none)"
        )
    value = row[field]
    names: Iterable[Any] = () if value is None else value if isinstance(value, list) else (value,)
    if not all(isinstance(name, str | int) for name in names):
        raise FormatError(
            f"{where}: the field '{field}' must be a name or a list of names, found {value!r:.60}"
        )
    return frozenset(str(name) for name in names)
