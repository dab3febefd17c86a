"""Harvest: run a subject model over a corpus and write its activations to a store.

One forward pass serves all hooks and stops after the last layer needed. Special tokens and padding
are dropped. Rows are committed group by group; a harvest that was stopped, at whatever moment, goes
on where its last commit ended and writes the same rows as one that was not.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from saetools import progress
from saetools.corpus import Corpus, Document, held_out
from saetools.errors import ConfigError
from saetools.harvest.batching import groups
from saetools.harvest.job import Job, as_corpus, resolve_hooks
from saetools.harvest.rows import read_group
from saetools.models.base import SubjectModel
from saetools.store import ActivationStore, StoreDtype, StoreWriter

__all__ = ["harvest"]

logger = logging.getLogger(__name__)

_GROUP_TOKENS = 32_768


def harvest(
    model: SubjectModel,
    corpus: Corpus | Iterable[str | Document],
    *,
    hook_name: str | Sequence[str],
    out: str | Path,
    n_tokens: int | None = None,
    dtype: StoreDtype = "float16",
    ctx_len: int | None = None,
    batch_tokens: int = 4096,
    held_out_fraction: float = 0.1,
    seed: int = 0,
) -> ActivationStore:
    """Write the activations of `model` on `corpus` to the store `out` and return it, opened.

    A store that is there and complete is returned as it is; an unfinished one is gone on with; both
    only if it was asked for with the same settings.

    Args:
        model: subject model, from `load_model`.
        corpus: from `load_corpus`, or any texts. A document longer than `ctx_len` is truncated.
        hook_name: one hook or several, in any spelling the model knows.
        n_tokens: stop after the document that reaches this many rows; None takes all.
        dtype: precision on disk.
        ctx_len: longest sequence in tokens, specials included; the model's own by default.
        batch_tokens: tokens of one forward pass, padding included.
        held_out_fraction: share of documents that training will not see, 0 to 1.
        seed: of the held-out choice.

    Raises:
        HookNotFoundError: the model lacks a hook.
        ConfigError: the corpus is empty, or gives no content tokens.
        StoreError: the file holds another harvest, the disk is full, or an activation is NaN or
            infinite (the message says in which document and at which position).
    """
    corpus = as_corpus(corpus)
    job = Job(
        model,
        corpus,
        resolve_hooks(model, hook_name),
        dtype,
        min(ctx_len or model.ctx_len, model.ctx_len),
        batch_tokens,
        n_tokens,
        held_out_fraction,
        seed,
    )
    with StoreWriter(
        out,
        manifest=job.manifest(),
        labels=[document.label or "" for document in corpus],
        titles=[document.title or "" for document in corpus],
        held_out=held_out(len(corpus), fraction=held_out_fraction, seed=seed),
    ) as writer:
        if writer.complete:
            logger.info("%s is already complete; nothing to harvest", out)
        else:
            _fill(writer, job)
        n_rows = writer.n_tokens
    if n_rows == 0:
        Path(out).unlink()
        raise ConfigError(
            f"the corpus '{corpus.name}' has {len(corpus)} documents and not one content token "
            "among them; give it texts"
        )
    return ActivationStore.open(out)


def _fill(writer: StoreWriter, job: Job) -> None:
    """Run the groups that are not committed yet, and mark the store complete."""
    documents = job.corpus.documents
    with progress.task("harvest", total=len(documents), unit="documents") as bar:
        bar.advance(writer.n_docs_done)
        for group in groups(documents, group_tokens=_GROUP_TOKENS, ctx_len=job.ctx_len):
            if group.stop <= writer.n_docs_done:
                continue
            if job.n_tokens is not None and writer.n_tokens >= job.n_tokens:
                break
            left = None if job.n_tokens is None else job.n_tokens - writer.n_tokens
            rows = read_group(job, group).until(left)
            done = rows.first + len(rows.counts)
            writer.commit(rows.activations, rows.columns, n_docs_done=done)
            bar.advance(group.stop - group.start)
            bar.note(tokens=f"{writer.n_tokens:,}")
    writer.finish()
