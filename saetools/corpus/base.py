"""Documents, a corpus of them, and the registry of places they come from.

A source is one file in `saetools/corpus/sources/`: a class with a frozen `Config` and a `load`.
This module does not read texts itself and knows no tokenizer; `fit` makes a corpus of chats or of
token ids ready for a model. A corpus is held in memory as a whole: for texts that do not fit, cap
`n_docs`, or harvest part by part and merge the stores.
"""

import hashlib
import html
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, overload

from pydantic import BaseModel, ConfigDict

from saetools.config import validate
from saetools.errors import ConfigError
from saetools.registry import Registry

__all__ = [
    "CORPORA",
    "Corpus",
    "CorpusConfig",
    "CorpusSource",
    "Document",
    "Message",
    "load_corpus",
]


class Message(NamedTuple):
    """One turn of a chat: who speaks ("user", "assistant", "system", ...), and what is said."""

    role: str
    content: str


@dataclass(frozen=True)
class Document:
    """One text, with what is known about it.

    Args:
        text: the text itself; of token ids, what they spell, or "" while that is not known.
        label: class of the text (a topic, a genre, a module name), None if it has none.
        title: where it comes from, for people to read.
        token_ids: the text as some tokenizer has cut it, None if it comes as text.
        messages: the chat that `text` shows, None if it is none.
    """

    text: str
    label: str | None = None
    title: str | None = None
    token_ids: tuple[int, ...] | None = None
    messages: tuple[Message, ...] | None = None

    @property
    def content(self) -> str | tuple[int, ...]:
        """What a model is given: the token ids if there are any, else the text."""
        return self.text if self.token_ids is None else self.token_ids

    @property
    def blank(self) -> bool:
        """True if there is nothing to read in it."""
        return not (self.text.strip() if self.token_ids is None else self.token_ids)


@dataclass(frozen=True, repr=False)
class Corpus:
    """Documents in a fixed order.

    Args:
        documents: the documents.
        name: what the corpus is called in manifests and reports.
        tokenizer: of token ids: the name or fingerprint of the tokenizer that made them.
    """

    documents: tuple[Document, ...]
    name: str
    tokenizer: str | None = None

    def __len__(self) -> int:
        return len(self.documents)

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}, {len(self):,} documents, {len(self.label_counts):,} labels)"

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Document, ...]: ...
    def __getitem__(self, index: int | slice) -> Document | tuple[Document, ...]:
        return self.documents[index]

    @property
    def labels(self) -> tuple[str | None, ...]:
        """Label of each document, in their order."""
        return tuple(document.label for document in self.documents)

    @cached_property
    def label_counts(self) -> dict[str, int]:
        """Number of documents of each label, most frequent first; unlabelled ones left out."""
        counts = Counter(label for label in self.labels if label is not None)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all texts and labels in order, 16 hex digits; titles do not count.

        Token ids count in the place of the text that they spell.
        """
        digest = hashlib.sha256()
        for document in self.documents:
            text: str | None = document.text
            if document.token_ids is not None:
                digest.update(b"ids" + b",".join(b"%d" % token for token in document.token_ids))
                text = None
            for part in (text, document.label):
                data = b"" if part is None else part.encode("utf-8", "surrogatepass")
                # The length keeps ("ab", "c") apart from ("a", "bc"), -1 keeps None from "".
                digest.update(b"%d:" % (-1 if part is None else len(data)) + data)
        return digest.hexdigest()[:16]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(label)}</td><td>{count:,}</td></tr>"
            for label, count in list(self.label_counts.items())[:12]
        )
        more = max(len(self.label_counts) - 12, 0)
        return (
            f"<p><b>{html.escape(self.name)}</b>: {len(self):,} documents, "
            f"{len(self.label_counts):,} labels, fingerprint <code>{self.fingerprint}</code></p>"
            f"<table><tr><th>label</th><th>documents</th></tr>{rows}</table>"
            + (f"<p>and {more:,} more labels</p>" if more else "")
        )


class CorpusConfig(BaseModel):
    """What every source's settings have in common: they are frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def source(self) -> str:
        """What was read, for the name of the corpus; empty where the type says it all."""
        return ""

    @property
    def token_source(self) -> str | None:
        """Name or fingerprint of the tokenizer that made the token ids; None for texts."""
        return None


class CorpusSource(Protocol):
    """A place that documents come from."""

    Config: type[Any]

    @staticmethod
    def load(config: Any) -> list[Document]:
        """Read the documents; the same settings give the same documents in the same order."""


CORPORA: Registry[type[CorpusSource]] = Registry(
    "corpus source", package="saetools.corpus.sources", group="saetools.corpora"
)


def load_corpus(config: Mapping[str, Any]) -> Corpus:
    """Read a corpus: `load_corpus({"type": "files", "path": "stories.jsonl.gz"})`.

    Args:
        config: `type` names the source; the other keys are that source's settings.

    Raises:
        ConfigError: a setting is missing, unknown or out of range, or nothing was found.
        UnknownNameError: there is no such source.
        FormatError: a file is not what its name says, or holds bytes that are no text.
    """
    fields = dict(config)
    if "type" not in fields:
        raise ConfigError(
            f"a corpus needs a `type`; found only the keys {sorted(fields)}; "
            f"add one of: {', '.join(CORPORA.names())}"
        )
    kind = str(fields.pop("type"))
    source = CORPORA.get(kind)
    settings = validate(source.Config, fields, what=f"corpus '{kind}'")
    documents = tuple(source.load(settings))
    if not documents:
        raise ConfigError(
            f"the corpus '{kind}' with the settings {fields} gave no documents; "
            f"loosen the filters or point it at other texts"
        )
    name = f"{kind}:{settings.source}" if settings.source else kind
    return Corpus(documents, name, settings.token_source)
