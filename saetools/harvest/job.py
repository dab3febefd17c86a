"""What is harvested, and how: the settings of a harvest, resolved against its model and texts."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from saetools.corpus import Corpus, Document
from saetools.errors import ConfigError
from saetools.models.base import SubjectModel
from saetools.store import StoreDtype

__all__ = ["Job", "as_corpus", "resolve_hooks"]


class Job(NamedTuple):
    """A harvest, before any of it is done.

    Args:
        model: subject model.
        corpus: documents, in the order of the store.
        names: hooks in canonical spelling.
        dtype: precision on disk.
        ctx_len: longest sequence in tokens, specials included.
        batch_tokens: tokens of one forward pass, padding included.
        n_tokens: stop after the document that reaches this many rows; None takes all.
        held_out_fraction: share of documents that training will not see.
        seed: of the held-out choice.
    """

    model: SubjectModel
    corpus: Corpus
    names: tuple[str, ...]
    dtype: StoreDtype
    ctx_len: int
    batch_tokens: int
    n_tokens: int | None
    held_out_fraction: float
    seed: int

    def manifest(self) -> dict[str, Any]:
        """What the store will say of itself; two harvests with equal ones give equal rows."""
        model = self.model
        return {
            "model": {
                "name": model.name,
                "kind": model.kind,
                "fingerprint": model.fingerprint,
                "tokenizer_fingerprint": model.tokenizer_fingerprint,
            },
            "corpus": {
                "name": self.corpus.name,
                "fingerprint": self.corpus.fingerprint,
                "n_docs": len(self.corpus),
            },
            "widths": {name: model.width(name) for name in self.names},
            "dtype": self.dtype,
            "ctx_len": self.ctx_len,
            "n_tokens": self.n_tokens,
            "held_out": {"fraction": self.held_out_fraction, "seed": self.seed},
            "special_tokens": "dropped",
            "versions": {name: version(name) for name in ("torch", "transformers", "h5py")},
        }


def resolve_hooks(model: SubjectModel, hook_name: str | Sequence[str]) -> tuple[str, ...]:
    """Canonical names of one hook or several.

    Raises:
        HookNotFoundError: the model lacks one.
    """
    asked = [hook_name] if isinstance(hook_name, str) else list(hook_name)
    return tuple(model.resolve(name) for name in asked)


def as_corpus(texts: Corpus | Iterable[str | Document]) -> Corpus:
    """A corpus of any texts.

    Raises:
        ConfigError: there is not one.
    """
    if isinstance(texts, Corpus):
        corpus = texts
    else:
        documents = tuple(Document(t) if isinstance(t, str) else t for t in texts)
        corpus = Corpus(documents, "texts")
    if len(corpus) == 0:
        raise ConfigError("cannot harvest an empty corpus: it has no documents; give it texts")
    return corpus
