"""What a harvest will cost, before it is started: tokens, bytes, seconds, and the disk there is.

Tokens are predicted from a sample of the documents, seconds from a short timed run of some of them.
The outlier filter is not counted: a prediction is of what a harvest without it would write.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from saetools.corpus import Corpus, Document
from saetools.errors import StoreError
from saetools.harvest.batching import Group, guess_tokens
from saetools.harvest.distributed import shards_of
from saetools.harvest.job import Job
from saetools.harvest.layout import rows_of
from saetools.harvest.outliers import unfiltered
from saetools.harvest.rows import read_group
from saetools.repro import generator
from saetools.store.schema import CHUNK_ROWS, numpy_dtype

__all__ = [
    "HarvestPlan",
    "free_bytes",
    "plan_harvest",
    "predicted_bytes",
    "refuse_if_full",
    "rows_of",
]

_MARGIN = 1.05
_SAMPLE_DOCS = 256
_SAMPLE_CHARS = 1_000_000
_PROBE_BATCHES = 4
_PROBE_SECONDS = 3.0
_BYTES_OF_A_FILE = 16_384
_NUMBERS_OF_A_HOOK = 1034  # two slots of norms and precision
_BYTES_OF_A_TEXT = 32  # its length and its place in HDF5's heap


@dataclass(frozen=True)
class HarvestPlan:
    """What a harvest would do.

    Args:
        n_docs: documents of the corpus.
        n_tokens: rows that it would write.
        n_bytes: size of the store.
        free_bytes: what the disk has free for it.
        batch_tokens: tokens of one forward pass.
        seconds: duration, writing left out; None where nothing could be timed.
        tokens_per_second: rows a second.
    """

    n_docs: int
    n_tokens: int
    n_bytes: int
    free_bytes: int
    batch_tokens: int
    seconds: float | None
    tokens_per_second: float | None

    @property
    def fits(self) -> bool:
        """Whether the disk has room, with a margin of a twentieth."""
        return self.free_bytes >= self.n_bytes * _MARGIN


def plan_harvest(job: Job, out: str | Path) -> HarvestPlan:
    """Predict a harvest without writing anything; takes a few seconds.

    Args:
        job: with `batch_tokens` a number, as `prepare` leaves it.
        out: where the store would be.
    """
    n_tokens = _predicted_rows(job)
    rate = _rows_per_second(job)
    return HarvestPlan(
        n_docs=len(job.corpus),
        n_tokens=n_tokens,
        n_bytes=predicted_bytes(job, n_tokens),
        free_bytes=free_bytes(out),
        batch_tokens=job.forward_tokens,
        seconds=None if rate is None else n_tokens / rate,
        tokens_per_second=rate,
    )


def refuse_if_full(job: Job, out: str | Path) -> None:
    """Refuse a harvest that the disk has no room for.

    Raises:
        StoreError: bytes needed and bytes free.
    """
    path = Path(out)
    there = sum(p.stat().st_size for p in (path, *shards_of(path)) if p.is_file())
    free = free_bytes(path)
    # Cheap and nearly always enough: no tokenizer makes more tokens than a text has bytes.
    most = sum(_most_tokens(document) for document in job.corpus)
    if (predicted_bytes(job, most) - there) * _MARGIN <= free:
        return
    needed = int((predicted_bytes(job, _predicted_rows(job)) - there) * _MARGIN)
    if needed > free:
        raise StoreError(
            f"the harvest to {path} needs about {needed:,} bytes of disk (5 % to spare) and "
            f"{free:,} are free; make room, choose another disk, or store less: fewer hooks, "
            "n_tokens, or a dtype of half the size"
        )


def _most_tokens(document: Document) -> int:
    content = document.content
    return 2 + len(content.encode("utf-8", "replace") if isinstance(content, str) else content)


def predicted_bytes(job: Job, n_rows: int) -> int:
    """Size of a store of `n_rows` rows."""
    widths = [job.model.width(name) for name in job.names]
    columns = 3 * np.dtype(np.int32).itemsize
    scales = len(widths) * np.dtype(np.float32).itemsize if job.dtype == "int8" else 0
    row = sum(widths) * np.dtype(numpy_dtype(job.dtype)).itemsize + scales + columns
    chunks = -(-n_rows // CHUNK_ROWS)
    moments = (4 * sum(widths) + _NUMBERS_OF_A_HOOK * len(widths)) * 8
    texts = sum(
        len((text or "").encode("utf-8", "replace")) + _BYTES_OF_A_TEXT
        for document in job.corpus
        for text in (document.label, document.title)
    )
    return chunks * CHUNK_ROWS * row + moments + texts + len(job.corpus) + _BYTES_OF_A_FILE


def free_bytes(path: str | Path) -> int:
    """Bytes that the disk of a path has free, whether the path is there or not."""
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _predicted_rows(job: Job) -> int:
    """Rows of the corpus: those of a sample, by the ratio of the lengths of the texts."""
    chosen = _sample(job)
    sampled = sum(rows_of(job, [job.corpus[i].content for i in chosen]))
    if job.pooling == "token":
        sizes = [guess_tokens(document, job.doc_tokens) for document in job.corpus]
        share = sum(sizes[i] for i in chosen) / max(sum(sizes), 1e-9)
    else:
        share = len(chosen) / len(job.corpus)
    rows = round(sampled / share) if share else 0
    return rows if job.n_tokens is None else min(rows, job.n_tokens)


def _sample(job: Job) -> list[int]:
    """Documents in random order: all of a small corpus, else enough to know it by."""
    order = torch.randperm(len(job.corpus), generator=generator(0, "plan")).tolist()
    chosen: list[int] = []
    chars = 0
    for index in order[:_SAMPLE_DOCS]:
        chosen.append(index)
        chars += len(job.corpus[index].content)
        if chars >= _SAMPLE_CHARS:
            break
    return chosen


def _rows_per_second(job: Job) -> float | None:
    """Speed over some batches of the corpus, after one that warms up."""
    corpus, seconds, rows = job.corpus, 0.0, 0
    documents = tuple(corpus[i] for i in _sample(job))
    picked = unfiltered(job)._replace(corpus=Corpus(documents, corpus.name))
    start = 0
    for number in range(1 + _PROBE_BATCHES):
        stop, size = start, 0.0
        while stop < len(picked.corpus) and size < 2 * job.forward_tokens:
            size += guess_tokens(picked.corpus[stop], job.doc_tokens)
            stop += 1
        if stop == start:
            break
        begun = time.monotonic()
        found = sum(read_group(picked, Group(start, stop)).counts)
        spent = time.monotonic() - begun
        # The first one pays for what the others find ready; it counts where there is no other.
        if number == 1:
            seconds, rows = 0.0, 0
        seconds, rows = seconds + spent, rows + found
        start = stop
        if seconds > _PROBE_SECONDS:
            break
    return rows / seconds if rows else None
