"""Harvest: run a subject model over a corpus and write its activations to a store.

One forward pass serves all hooks and stops after the last layer needed. Special tokens and padding
are dropped. Rows are committed group by group; a harvest that was stopped, at whatever moment, goes
on where its last commit ended and writes the same rows as one that was not. Started by torchrun, it
is shared by all processes, a shard each, and ends in the same rows.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from saetools import progress
from saetools.corpus import Corpus, Document, held_out
from saetools.errors import ConfigError, StoreError
from saetools.harvest.auto import default_ctx_len
from saetools.harvest.batching import Group, groups
from saetools.harvest.distributed import shard_path, shards_of, share
from saetools.harvest.job import Job, as_corpus, resolve_hooks
from saetools.harvest.layout import rows_of
from saetools.harvest.options import options_of
from saetools.harvest.prepare import prepare
from saetools.harvest.rows import read_group
from saetools.interrupt import Interrupt, deferred_interrupt
from saetools.models.base import SubjectModel
from saetools.processes import World, joined, world
from saetools.store import ActivationStore, StoreDtype, StoreFilter, StoreWriter, merge

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
    batch_tokens: int | Literal["auto"] = 4096,
    held_out_fraction: float = 0.1,
    seed: int = 0,
    filter: StoreFilter | None = None,
    **options: Any,
) -> ActivationStore:
    """Write the activations of `model` on `corpus` to the store `out` and return it, opened.

    A store that is there and complete is returned as it is; an unfinished one is gone on with; both
    only if it was asked for with the same settings. Under torchrun every process calls this with
    the same arguments; each writes a shard beside `out`, and `out` joins them.

    Args:
        model: subject model, from `load_model`.
        corpus: from `load_corpus`, or any texts.
        hook_name: one hook or several, in any spelling the model knows.
        n_tokens: stop after the document that reaches this many rows; None takes all.
        dtype: precision on disk.
        ctx_len: longest sequence in tokens, specials included; by default the model's own, and at
            most 1024 for a language model.
        batch_tokens: tokens of one forward pass, padding included; "auto" finds what fits.
        held_out_fraction: share of documents that training will not see, 0 to 1.
        seed: of the held-out choice.
        filter: compression of the store, e.g. "gzip", or one of the extra saetools[filters];
            None, the fastest to read, by default.
        options: how documents become rows; fields of `HarvestOptions`.

    Raises:
        HookNotFoundError: the model lacks a hook.
        ConfigError: the corpus is empty, or gives no content tokens; or many processes were asked
            for `n_tokens` rows with `max_norm_multiple`.
        StoreError: the file holds another harvest, the disk is full, or an activation is NaN or
            infinite (the message says in which document and at which position).
        KeyboardInterrupt: on Ctrl-C or SIGTERM; what was committed is kept.
    """
    corpus = as_corpus(corpus, model)
    job = Job(
        model,
        corpus,
        resolve_hooks(model, hook_name),
        dtype,
        min(ctx_len or default_ctx_len(model), model.ctx_len),
        batch_tokens,
        n_tokens,
        held_out_fraction,
        seed,
        options_of(options),
        filter=filter,
    )
    here, out = world(), Path(out)
    if here.size == 1:
        job = prepare(job, out)
        n_rows = _write(out, job, _everything(job))
    else:
        n_rows = _write_together(out, job, here)
    if n_rows == 0:
        if here.rank == 0:
            _remove(out)
        raise ConfigError(
            f"the corpus '{corpus.name}' has {len(corpus)} documents and not one content token "
            "among them; give it texts"
        )
    return ActivationStore.open(out)


class _Part(NamedTuple):
    """What one process does: groups in order, as many rows as `n_tokens` asks, and a label."""

    groups: list[Group]
    n_tokens: int | None
    label: dict[str, Any]

    @property
    def documents(self) -> slice:
        """The documents of its store."""
        return slice(self.groups[0].start, self.groups[-1].stop)


def _everything(job: Job) -> _Part:
    return _Part(_groups(job), job.n_tokens, {})


def _groups(job: Job) -> list[Group]:
    documents = job.corpus.documents
    return list(groups(documents, group_tokens=_GROUP_TOKENS, ctx_len=job.doc_tokens))


def _write(path: Path, job: Job, part: _Part) -> int:
    """Write the store of a part, or what is left of it; return its number of rows."""
    with _writer(path, job, part) as writer:
        if writer.complete:
            logger.info("%s is already complete; nothing to harvest", path)
        else:
            with deferred_interrupt() as interrupt:
                _fill(writer, job, part, interrupt)
        return writer.n_tokens


def _writer(path: Path, job: Job, part: _Part) -> StoreWriter:
    """The store of a part; whether a document is held out depends on its place in the corpus."""
    documents = job.corpus[part.documents]
    away = held_out(len(job.corpus), fraction=job.held_out_fraction, seed=job.seed)
    return StoreWriter(
        path,
        manifest=job.manifest() | part.label,
        labels=[document.label or "" for document in documents],
        titles=[document.title or "" for document in documents],
        held_out=away[part.documents],
        filter=job.filter,
    )


def _fill(writer: StoreWriter, job: Job, part: _Part, interrupt: Interrupt) -> None:
    """Run the groups that are not committed yet, and mark the store complete.

    An interrupt throws the group away that is being read, and waits for a commit to end.
    """
    first, n_docs = part.documents.start, part.documents.stop - part.documents.start
    with progress.task("harvest", total=n_docs, unit="documents") as bar:
        bar.advance(writer.n_docs_done)
        for group in part.groups:
            if group.stop - first <= writer.n_docs_done:
                continue
            left = None if part.n_tokens is None else part.n_tokens - writer.n_tokens
            if left is not None and left <= 0:
                break
            try:
                with interrupt.at_once():
                    rows = read_group(job, group).until(left)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"the harvest stopped after {writer.n_tokens:,} tokens, which {writer.path} "
                    f"keeps, of {writer.n_docs_done:,} of {n_docs:,} documents; run it again to go "
                    "on from there"
                ) from None
            columns = rows.columns._replace(doc=rows.columns.doc - first)
            done = rows.first + len(rows.counts) - first
            if job.norm_limits is not None:
                writer.note_dropped(rows.n_dropped)
            writer.commit(rows.activations, columns, n_docs_done=done)
            bar.advance(group.stop - group.start)
            bar.note(tokens=f"{writer.n_tokens:,}")
    writer.finish()
    if interrupt():
        raise KeyboardInterrupt(f"stopped when the harvest was complete; {writer.path} has it all")


def _write_together(out: Path, job: Job, here: World) -> int:
    """Write this process's shard; the first process merges all. Return the rows of the whole."""
    _check_countable(job)
    quiet = progress.use("silent") if here.rank else nullcontext()
    with joined(here) as meeting, quiet:
        # What is found by trying, such as a batch size, is found once, for all.
        job = job._replace(**meeting.first_does(lambda: _found(prepare(job, out))))
        if not meeting.first_does(lambda: _is_there(out, job)):
            shards = _shards(out, job, here.size)
            mine = shard_path(out, here)
            if mine in shards:
                _write(mine, job, shards[mine])
            meeting.wait()
            meeting.first_does(lambda: merge(list(shards), out=out).close())
        with ActivationStore.open(out) as store:
            n_rows = store.n_tokens
        meeting.wait()  # nobody removes a file that another has still to read
        return n_rows


def _check_countable(job: Job) -> None:
    """Refuse what only one process can do: count rows that others have still to drop or keep."""
    multiple = job.options.max_norm_multiple
    if job.n_tokens is not None and multiple is not None:
        raise ConfigError(
            f"n_tokens={job.n_tokens:,} was asked for with max_norm_multiple={multiple:g} and many "
            "processes: which rows are dropped is known only once they are computed, so none of "
            "them can tell where the others reach n_tokens; leave one of the two out, take fewer "
            "documents in place of n_tokens, or harvest with one process"
        )


def _found(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in ("batch_tokens", "norm_limits", "begun_with")}


def _shards(out: Path, job: Job, size: int) -> dict[Path, _Part]:
    """The part of each process that has one, by the file it goes to, in the order of the corpus."""
    needed, n_before = _needed(job)
    parts: dict[Path, _Part] = {}
    for rank in range(size):
        here = World(rank, size)
        if mine := share(needed, here):
            left = None if job.n_tokens is None else job.n_tokens - n_before[mine[0].start]
            label = {"shard": {"rank": rank, "of": size, "first_doc": mine[0].start}}
            parts[shard_path(out, here)] = _Part(mine, left, label)
    return parts


def _needed(job: Job) -> tuple[list[Group], dict[int, int]]:
    """The groups that `n_tokens` asks for, and how many rows come before each, by its start.

    Rows are counted by tokenizing.
    """
    every = _groups(job)
    if job.n_tokens is None:
        return every, {}
    n_rows = 0
    n_before: dict[int, int] = {}
    for index, group in enumerate(every):
        if n_rows >= job.n_tokens:
            return every[:index], n_before
        n_before[group.start] = n_rows
        texts = [document.content for document in job.corpus[group.start : group.stop]]
        n_rows += sum(rows_of(job, texts))
    return every, n_before


def _is_there(out: Path, job: Job) -> bool:
    """Whether the result is there; refuse a file in its place that is not this very harvest."""
    if not out.exists():
        return False
    with _writer(out, job, _everything(job)) as writer:
        if not writer.complete:
            raise StoreError(
                f"{out} is an unfinished harvest of one process ({writer.n_tokens:,} tokens); "
                "finish it with one process, or delete it to harvest with many"
            )
    return True


def _remove(out: Path) -> None:
    for path in (out, *shards_of(out)):
        path.unlink(missing_ok=True)
