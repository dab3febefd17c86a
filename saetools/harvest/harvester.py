"""Harvest: run a subject model over a corpus and write its activations to a store.

One forward pass serves all hooks and stops after the last layer needed. Special tokens and padding
are dropped. Rows are committed group by group; a harvest that was stopped, at whatever moment, goes
on where its last commit ended and writes the same rows as one that was not.
"""

import logging
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saetools import progress
from saetools.corpus import Corpus, Document, held_out
from saetools.errors import ConfigError, StoreError
from saetools.harvest.batching import Group, groups, length_batches
from saetools.models.base import SubjectModel
from saetools.store import ActivationStore, StoreDtype, StoreWriter, TokenColumns

__all__ = ["harvest"]

logger = logging.getLogger(__name__)

_GROUP_TOKENS = 32_768


class _Job(NamedTuple):
    """What is harvested, and how."""

    model: SubjectModel
    corpus: Corpus
    names: list[str]
    ctx_len: int
    batch_tokens: int
    n_tokens: int | None


class _Rows(NamedTuple):
    """What one document gives: activations (n, d_in) by hook, token ids and positions (n,)."""

    activations: dict[str, Tensor]
    token_ids: Tensor
    pos: Tensor


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
    corpus = _as_corpus(corpus)
    hooks = [hook_name] if isinstance(hook_name, str) else list(hook_name)
    names = [model.resolve(name) for name in hooks]
    ctx_len = min(ctx_len or model.ctx_len, model.ctx_len)
    split = held_out(len(corpus), fraction=held_out_fraction, seed=seed)
    manifest = {
        "model": {
            "name": model.name,
            "kind": model.kind,
            "fingerprint": model.fingerprint,
            "tokenizer_fingerprint": model.tokenizer_fingerprint,
        },
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint, "n_docs": len(corpus)},
        "widths": {name: model.width(name) for name in names},
        "dtype": dtype,
        "ctx_len": ctx_len,
        "n_tokens": n_tokens,
        "held_out": {"fraction": held_out_fraction, "seed": seed},
        "special_tokens": "dropped",
        "versions": {name: version(name) for name in ("torch", "transformers", "h5py")},
    }
    job = _Job(model, corpus, names, ctx_len, batch_tokens, n_tokens)
    with StoreWriter(
        out,
        manifest=manifest,
        labels=[document.label or "" for document in corpus],
        titles=[document.title or "" for document in corpus],
        held_out=split,
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


def _fill(writer: StoreWriter, job: _Job) -> None:
    """Run the groups that are not committed yet, and mark the store complete."""
    documents = job.corpus.documents
    with progress.task("harvest", total=len(documents), unit="documents") as bar:
        bar.advance(writer.n_docs_done)
        for group in groups(documents, group_tokens=_GROUP_TOKENS, ctx_len=job.ctx_len):
            if group.stop <= writer.n_docs_done:
                continue
            if job.n_tokens is not None and writer.n_tokens >= job.n_tokens:
                break
            _commit(writer, job, group, _read_group(job, group))
            bar.advance(group.stop - group.start)
            bar.note(tokens=f"{writer.n_tokens:,}")
    writer.finish()


def _read_group(job: _Job, group: Group) -> dict[int, _Rows]:
    """Content rows of every document of a group."""
    texts = [document.text for document in job.corpus[group.start : group.stop]]
    out: dict[int, _Rows] = {}
    for batch in length_batches(texts, batch_tokens=job.batch_tokens, ctx_len=job.ctx_len):
        tokens = job.model.tokenize([texts[i] for i in batch], ctx_len=job.ctx_len)
        found = job.model.activations(tokens, job.names)
        content = tokens.content
        for place, index in enumerate(batch):
            keep = content[place].nonzero().squeeze(-1)
            out[group.start + index] = _Rows(
                {name: found[name][place, keep].cpu() for name in job.names},
                tokens.ids[place, keep].cpu(),
                keep.cpu(),
            )
    return out


def _commit(writer: StoreWriter, job: _Job, group: Group, rows: dict[int, _Rows]) -> None:
    """Write a group: whole documents, in order, up to the one that reaches n_tokens."""
    stop, held = group.start, writer.n_tokens
    while stop < group.stop and (job.n_tokens is None or held < job.n_tokens):
        held += len(rows[stop].pos)
        stop += 1
    documents = range(group.start, stop)
    counts = [len(rows[i].pos) for i in documents]
    columns = TokenColumns(
        torch.cat([rows[i].token_ids for i in documents]).numpy().astype(np.int32),
        np.repeat(np.arange(group.start, stop, dtype=np.int32), counts),
        torch.cat([rows[i].pos for i in documents]).numpy().astype(np.int32),
    )
    activations = {
        name: torch.cat([rows[i].activations[name] for i in documents])
        for name in rows[group.start].activations
    }
    for name, x in activations.items():
        _check_finite(x.to(getattr(torch, writer.dtype)), name, columns, job.corpus, writer.dtype)
    writer.commit(activations, columns, n_docs_done=stop)


def _check_finite(x: Tensor, name: str, columns: TokenColumns, corpus: Corpus, dtype: str) -> None:
    bad = (~x.isfinite()).any(1).nonzero()
    if len(bad) == 0:
        return
    row = int(bad[0])
    index = int(columns.doc[row])
    worst = x[row][~x[row].isfinite()][0].item()
    raise StoreError(
        f"the activation at {name} is {worst} in document {index} "
        f"({corpus[index].title or corpus[index].text[:40]!r}) at position {columns.pos[row]}, "
        f"stored as {dtype}; {len(bad):,} tokens of this group are affected. If the model is "
        "sound, its activations overflow float16: harvest with dtype=bfloat16 or float32"
    )


def _as_corpus(texts: Corpus | Iterable[str | Document]) -> Corpus:
    if isinstance(texts, Corpus):
        corpus = texts
    else:
        documents = tuple(Document(t) if isinstance(t, str) else t for t in texts)
        corpus = Corpus(documents, "texts")
    if len(corpus) == 0:
        raise ConfigError("cannot harvest an empty corpus: it has no documents; give it texts")
    return corpus
