"""What is harvested, and how: the settings of a harvest, resolved against its model and texts."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, Literal, NamedTuple, cast

from saetools.corpus import Corpus, Document, for_model
from saetools.errors import ConfigError
from saetools.harvest.options import HarvestOptions
from saetools.models.base import SubjectModel, TextEncoder
from saetools.models.pooling import PoolingMode
from saetools.store import StoreDtype, StoreFilter

__all__ = ["Job", "as_corpus", "resolve_hooks"]

_NO_LIMIT = 10**9


class Job(NamedTuple):
    """A harvest, before any of it is done.

    `prepare(job, out)` settles what is still open (`auto`, outlier limits, room on the disk) before
    the manifest is asked for; `groups` takes `doc_tokens` for its `ctx_len`; `rows_of` of the
    layout says how many rows texts have; what `GroupRows.n_dropped` says goes to
    `StoreWriter.note_dropped` before the group is committed.

    Args:
        model: subject model.
        corpus: documents, in the order of the store.
        names: hooks in canonical spelling.
        dtype: precision on disk.
        ctx_len: longest sequence in tokens, specials included.
        batch_tokens: tokens of one forward pass, padding included; `prepare` puts a number in the
            place of "auto".
        n_tokens: stop after the document that reaches this many rows; None takes all.
        held_out_fraction: share of documents that training will not see.
        seed: of the held-out choice.
        options: how documents become rows.
        norm_limits: largest norm of a kept token at each hook, in the order of `names`; None keeps
            all. `prepare` finds them.
        begun_with: `batch_tokens` that an unfinished store was begun with, if it was another.
        filter: how the store is compressed.
    """

    model: SubjectModel
    corpus: Corpus
    names: tuple[str, ...]
    dtype: StoreDtype
    ctx_len: int
    batch_tokens: int | Literal["auto"]
    n_tokens: int | None
    held_out_fraction: float
    seed: int
    options: HarvestOptions = HarvestOptions()
    norm_limits: tuple[float, ...] | None = None
    begun_with: int | None = None
    filter: StoreFilter | None = None

    @property
    def long(self) -> Literal["split", "truncate"]:
        """What becomes of a document longer than `ctx_len`."""
        if self.options.long == "auto":
            return "split" if self.model.kind == "language_model" else "truncate"
        return self.options.long

    @property
    def pooling(self) -> Literal["token"] | PoolingMode:
        """How tokens become rows; the encoder's own pooling where `auto` was asked for."""
        if self.options.pooling == "auto":
            return cast("TextEncoder", self.model).pooling
        return self.options.pooling

    @property
    def doc_tokens(self) -> int:
        """Tokens of one document that are read at most; what `groups` wants as `ctx_len`."""
        return self.ctx_len if self.long == "truncate" else _NO_LIMIT

    @property
    def forward_tokens(self) -> int:
        """Tokens of one forward pass, as a number."""
        assert self.batch_tokens != "auto", "`prepare` settles it"
        return self.batch_tokens

    def check(self) -> None:
        """Refuse options that do not suit the model.

        Raises:
            ConfigError: which, and what to ask for instead.
        """
        asked, name = self.options, self.model.name
        encoder = self.model.kind == "text_encoder"
        if encoder and asked.packing != "none":
            raise ConfigError(
                f"packing={asked.packing} was asked for, and '{name}' is a text encoder: its "
                "tokens see each other both ways, so texts would mix; leave packing at none"
            )
        if encoder and asked.long == "split":
            raise ConfigError(
                f"long=split was asked for, and '{name}' is a text encoder, which reads a text "
                f"whole; leave long at auto, which keeps a text's first {self.ctx_len} tokens"
            )
        if not encoder and asked.pooling != "token":
            raise ConfigError(
                f"pooling={asked.pooling} was asked for, and '{name}' is a language model; pooling "
                "belongs to text encoders; leave it at token"
            )
        if asked.pooling != "token" and asked.special_tokens == "kept":
            raise ConfigError(
                f"special_tokens=kept was asked for with pooling={asked.pooling}, which gives one "
                "row a document and none to special tokens; leave one of them out"
            )

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
            "aliases": {name: model.aliases(name) for name in self.names},
            "dtype": self.dtype,
            "ctx_len": self.ctx_len,
            "n_tokens": self.n_tokens,
            "held_out": {"fraction": self.held_out_fraction, "seed": self.seed},
            "special_tokens": self.options.special_tokens,
            "packing": self.options.packing,
            "long": self.long,
            "pooling": self.pooling,
            "outliers": self._outliers(),
            "batch_tokens": self.begun_with or self.batch_tokens,
            "versions": {name: version(name) for name in ("torch", "transformers", "h5py")},
        }

    def _outliers(self) -> dict[str, Any] | None:
        if self.options.max_norm_multiple is None:
            return None
        limits = dict(zip(self.names, self.norm_limits or (), strict=False))
        return {"max_norm_multiple": self.options.max_norm_multiple, "norm_limits": limits}


def resolve_hooks(model: SubjectModel, hook_name: str | Sequence[str]) -> tuple[str, ...]:
    """Canonical names of one hook or several.

    Raises:
        HookNotFoundError: the model lacks one.
    """
    asked = [hook_name] if isinstance(hook_name, str) else list(hook_name)
    return tuple(model.resolve(name) for name in asked)


def as_corpus(
    texts: Corpus | Iterable[str | Document], model: SubjectModel | None = None
) -> Corpus:
    """A corpus of any texts; as `model` reads it, if that is given (chats, token ids).

    Raises:
        ConfigError: there is not one, or its chats or token ids do not suit the model.
    """
    if isinstance(texts, Corpus):
        corpus = texts
    else:
        documents = tuple(Document(t) if isinstance(t, str) else t for t in texts)
        corpus = Corpus(documents, "texts")
    if len(corpus) == 0:
        raise ConfigError("cannot harvest an empty corpus: it has no documents; give it texts")
    return corpus if model is None else for_model(corpus, model)
