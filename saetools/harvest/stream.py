"""Training without a store: harvest straight into a mixing buffer.

For corpora whose activations would not fit on any disk. The forward passes of the next buffer run
in the background while the trainer works on this one. Every epoch costs them anew, and nothing is
kept: where the disk has room, `harvest` is the cheaper way to train more than once.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.corpus import Corpus, Document, held_out
from saetools.errors import ConfigError, HookNotFoundError, nearest
from saetools.harvest.auto import default_ctx_len
from saetools.harvest.batching import Group, groups
from saetools.harvest.job import Job, as_corpus, resolve_hooks
from saetools.harvest.layout import rows_of
from saetools.harvest.options import options_of
from saetools.harvest.rows import read_group
from saetools.models.base import SubjectModel
from saetools.repro import generator
from saetools.store import Moments, Split, StoreBatch
from saetools.store.shuffle import GROUP_CHUNKS, shuffled_batches

__all__ = ["ActivationStream"]


class ActivationStream:
    """Activations of a subject model on a corpus, computed while they are read.

    `train(sae, stream, config)` takes it in the place of a store. Order is a function of (seed,
    epoch) alone, so a run goes on where it was stopped; passes that the order skips are not made.

    Args:
        model: subject model, from `load_model`.
        corpus: from `load_corpus`, or any texts; tokenized once, to count rows.
        hook_name: one hook or several, in any spelling the model knows.
        buffer_tokens: rows that are mixed with each other; twice as many are in memory, in float32.
        moment_tokens: rows that `moments` is estimated on.
        ctx_len, batch_tokens, held_out_fraction, seed, options: as in `harvest`.

    Raises:
        HookNotFoundError: the model lacks a hook.
        ConfigError: the corpus is empty, or rows would be dropped by their norm.
    """

    def __init__(
        self,
        model: SubjectModel,
        corpus: Corpus | Iterable[str | Document],
        *,
        hook_name: str | Sequence[str],
        buffer_tokens: int = 131_072,
        moment_tokens: int = 65_536,
        ctx_len: int | None = None,
        batch_tokens: int = 4096,
        held_out_fraction: float = 0.1,
        seed: int = 0,
        **options: Any,
    ) -> None:
        corpus = as_corpus(corpus, model)
        asked = options_of(options)
        if asked.max_norm_multiple is not None:
            raise ConfigError(
                f"a stream cannot drop rows by their norm (max_norm_multiple="
                f"{asked.max_norm_multiple}): it must know how many rows come before it computes "
                "them; harvest to a store, or leave max_norm_multiple out"
            )
        self._job = Job(
            model,
            corpus,
            resolve_hooks(model, hook_name),
            "float32",
            min(ctx_len or default_ctx_len(model), model.ctx_len),
            batch_tokens,
            None,
            held_out_fraction,
            seed,
            asked,
        )
        self._job.check()
        self._chunk_tokens = max(1, buffer_tokens // GROUP_CHUNKS)
        self._moment_tokens = moment_tokens
        self._moments: dict[str, Moments] = {}
        self.held_out = held_out(len(corpus), fraction=held_out_fraction, seed=seed)
        self.manifest: dict[str, Any] = self._job.manifest() | {
            "stream": {"buffer_tokens": buffer_tokens, "moment_tokens": moment_tokens}
        }

    @property
    def hook_names(self) -> tuple[str, ...]:
        """Hooks whose activations are computed."""
        return self._job.names

    @property
    def hook_name(self) -> str:
        """The first hook."""
        return self.hook_names[0]

    @property
    def d_in(self) -> int:
        """Width of the activations at the first hook."""
        return self.width()

    @property
    def n_docs(self) -> int:
        """Number of documents."""
        return len(self._job.corpus)

    @property
    def n_tokens(self) -> int:
        """Number of rows of an epoch, held-out ones included."""
        return self.n_rows()

    def n_rows(self, split: Split = "all") -> int:
        """Number of rows in a split."""
        return int(self._counts[self._documents(split)].sum())

    def width(self, hook_name: str | None = None) -> int:
        """Width of the activations at a hook (the first one by default)."""
        return int(self.manifest["widths"][self._hook(hook_name)])

    def moments(self, hook_name: str | None = None) -> Moments:
        """Count, mean and variance of a sample of training rows, drawn by the seed."""
        hook = self._hook(hook_name)
        if hook not in self._moments:
            self._estimate_moments()
        return self._moments[hook]

    def n_batches(self, batch_tokens: int, *, split: Split = "train") -> int:
        """Number of batches that `batches` gives an epoch."""
        rows = self.n_rows(split)
        return max(rows // batch_tokens, 1 if rows else 0)

    def batches(
        self,
        batch_tokens: int,
        *,
        seed: int,
        epoch: int = 0,
        start: int = 0,
        split: Split = "train",
        hook_name: str | None = None,
        pin_memory: bool = False,
    ) -> Iterator[Float[Tensor, "n d_in"]]:
        """Shuffled float32 batches (batch_tokens, d_in) of one epoch, from batch `start` on.

        A last batch that is not full is left out, unless it is the only one.
        """
        hook, job, chunks = self._hook(hook_name), *self._chunks(split)
        counts = self._counts[self._documents(split)]

        def read(chunk: int) -> Tensor:
            return read_group(job._replace(names=(hook,)), chunks[chunk]).activations[hook]

        return shuffled_batches(
            read,
            np.array([counts[chunk.start : chunk.stop].sum() for chunk in chunks], np.int64),
            batch_tokens=batch_tokens,
            seed=seed,
            epoch=epoch,
            start=start,
            pin_memory=pin_memory and torch.cuda.is_available(),
        )

    def stream(
        self, *, split: Split = "all", batch_tokens: int = 4096, hook_name: str | None = None
    ) -> Iterator[StoreBatch]:
        """Rows of a split in the order of the corpus, in batches of about `batch_tokens`."""
        hook, documents = self._hook(hook_name), self._documents(split)
        job = self._job_of(split)._replace(names=(hook,))
        first_rows = np.concatenate([[0], np.cumsum(self._counts)])
        for group in groups(
            job.corpus.documents, group_tokens=batch_tokens, ctx_len=job.doc_tokens
        ):
            rows = read_group(job, group)
            taken = documents[group.start : group.stop]
            row = np.concatenate(
                [np.arange(first_rows[i], first_rows[i + 1]) for i in taken]
            ).astype(np.int64)
            columns = rows.columns._replace(doc=documents[rows.columns.doc].astype(np.int32))
            if len(row):
                yield StoreBatch(rows.activations[hook], row, *columns)

    def __repr__(self) -> str:
        job = self._job
        return (
            f"ActivationStream({job.model.name} on {job.corpus.name}, {self.n_docs:,} documents, "
            f"width {self.d_in} at {', '.join(self.hook_names)})"
        )

    @cached_property
    def _counts(self) -> npt.NDArray[np.int64]:
        """Rows of each document."""
        return np.array(rows_of(self._job, [d.content for d in self._job.corpus]), np.int64)

    def _documents(self, split: Split) -> npt.NDArray[np.int64]:
        """Indices of the documents of a split."""
        if split == "all":
            return np.arange(self.n_docs)
        return np.flatnonzero(self.held_out == (split == "held_out"))

    def _job_of(self, split: Split) -> Job:
        chosen = tuple(self._job.corpus[int(i)] for i in self._documents(split))
        return self._job._replace(corpus=Corpus(chosen, self._job.corpus.name))

    def _chunks(self, split: Split) -> tuple[Job, list[Group]]:
        job = self._job_of(split)
        cut = groups(job.corpus.documents, group_tokens=self._chunk_tokens, ctx_len=job.doc_tokens)
        return job, list(cut)

    def _estimate_moments(self) -> None:
        job, chunks = self._chunks("train")
        found = {name: Moments.empty(self.width(name)) for name in self.hook_names}
        order = torch.randperm(len(chunks), generator=generator(self._job.seed, "moments"))
        for chunk in order.tolist():
            rows = read_group(job, chunks[chunk])
            found = {name: found[name].merged(x) for name, x in rows.activations.items()}
            if found[self.hook_name].count >= self._moment_tokens:
                break
        self._moments = found

    def _hook(self, hook_name: str | None) -> str:
        if hook_name is None:
            return self.hook_name
        if hook_name in self.hook_names:
            return hook_name
        close = nearest(hook_name, self.hook_names)
        raise HookNotFoundError(
            f"this stream has no activations at '{hook_name}'; it computes "
            f"{', '.join(self.hook_names)} (nearest: {', '.join(close)}); name that hook when you "
            "make the stream"
        )
