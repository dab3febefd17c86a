"""Build an index: encode the store once, then look at each range of latents.

Memory holds the tokens and words of the store (some 100 bytes a token) and the activations of one
range of latents; the sparse codes wait on disk, 8 bytes each, and are deleted at the end.
"""

import tempfile
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from saetools import progress
from saetools.analysis.auroc import Pooled, adjusted, label_test, pool_documents
from saetools.analysis.coactivation import Family, coactivation, levels
from saetools.analysis.codes import Codes, CodeWriter
from saetools.analysis.contexts import HELD_OUT, SPREAD, TOP, ContextTable, choose, windows
from saetools.analysis.index import LatentIndex
from saetools.analysis.logit_lens import logit_table
from saetools.analysis.neighbours import Neighbours, nearest_latents
from saetools.analysis.postings import CodedLists, DocTokens, encode
from saetools.analysis.tables import DocTable, LabelTable, LatentStats, latent_stats
from saetools.analysis.token_text import readable, starts_word, style_of
from saetools.analysis.units import UnitMass, UnitTable, join_masses, unit_masses
from saetools.analysis.words import Words, rebuild_words
from saetools.errors import ConfigError, ShapeError
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.store import ActivationStore

__all__ = ["index_latents"]

_MIN_DOCS = 8  # of a label in each split; fewer say nothing
_BATCH_TOKENS = 4096

Ints = npt.NDArray[np.int64]


def index_latents(
    sae: SAE,
    store: ActivationStore,
    *,
    model: SubjectModel,
    n_examples: int = 12,
    window: int = 12,
    seed: int = 0,
    out: str | Path | None = None,
) -> LatentIndex:
    """Index what every latent of an SAE fires on.

        index = st.index_latents(sae, acts, model=model, out="index.h5")

    Examples and words come from training documents; held-out documents give a second, disjoint set
    of each, and the AUROC that `concepts` reports.

    Args:
        sae: the SAE.
        store: activations of the hook it was trained at.
        model: the subject model; only its tokenizer is used.
        n_examples: documents shown of each latent, and as many kept for scoring names; half as
            many are drawn over its weaker documents.
        window: tokens shown on each side of a peak.
        seed: of that draw.
        out: HDF5 file to write, none by default.

    Raises:
        ShapeError: the SAE reads another width than the store has.
        HookNotFoundError: the store lacks the SAE's hook.
    """
    if n_examples < 1 or window < 0:
        raise ConfigError(
            f"index_latents: n_examples must be at least 1 and window at least 0; "
            f"got n_examples={n_examples}, window={window}"
        )
    hook_name = _check(sae, store, model)
    rows = _rows(store, model)
    folder = Path(out).parent if out is not None else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".codes-", dir=folder) as scratch:
        codes = _encode(sae, store, hook_name, Path(scratch))
        level = levels(sae.config.n_latents, _widths(sae))
        fired = _fired_train(codes, rows)
        found = [
            _range(
                codes, first, last, rows, level=level, fired_train=fired, n_examples=n_examples,
                window=window, seed=seed,
            )
            for first, last in codes.parts()
        ]  # fmt: skip
        del codes  # Windows cannot delete a file that is mapped
    index = _join(
        found, rows, sae=sae, store=store, model=model, hook_name=hook_name, window=window
    )
    if out is not None:
        index.save(out)
    return index


@dataclass(frozen=True)
class _Rows:
    """The token columns of a store, and what follows from them."""

    token: Ints  # index into texts
    texts: list[str]
    doc: npt.NDArray[np.int32]
    spans: Ints
    docs: DocTable
    held_out: npt.NDArray[np.bool_]  # of each row
    words: Words
    units: dict[str, Ints]  # unit of each row, by kind of unit
    label_of_doc: Ints
    labels: list[str]


class _Range(NamedTuple):
    """What was found of a range of latents."""

    stats: LatentStats
    auroc_train: npt.NDArray[np.float32]
    auroc_held_out: npt.NDArray[np.float32]
    contexts: ContextTable
    masses: dict[str, UnitMass]
    p_train: npt.NDArray[np.float64]
    family: Family
    step: npt.NDArray[np.uint32]
    share: npt.NDArray[np.float16]


def _widths(sae: SAE) -> list[int]:
    return list(sae.widths) if len(sae.widths) > 1 else []


def _fired_train(codes: Codes, rows: _Rows) -> Ints:
    train = np.repeat(~rows.held_out, np.diff(codes.bounds))
    return np.bincount(codes.latents[train], minlength=codes.n_latents)


def _check(sae: SAE, store: ActivationStore, model: SubjectModel) -> str:
    held = store.manifest["model"].get("tokenizer_fingerprint")
    if held is not None and held != model.tokenizer_fingerprint:
        raise ConfigError(
            f"{store.path} holds tokens of {store.manifest['model']['name']}, and {model.name} "
            "spells them otherwise (the tokenizers differ); index with the model that was harvested"
        )
    hook_name = str(sae.meta.get("hook_name") or store.hook_name)
    width = store.width(hook_name)
    if sae.config.d_in != width:
        raise ShapeError(
            f"the SAE reads activations of width {sae.config.d_in}; {store.path} holds width "
            f"{width} at {hook_name}; index with the store that the SAE was trained on"
        )
    return hook_name


def _rows(store: ActivationStore, model: SubjectModel) -> _Rows:
    columns = store.columns(0, store.n_tokens)
    ids, token = np.unique(columns.token_ids, return_inverse=True)
    pieces = [str(p) for p in model.tokenizer.convert_ids_to_tokens(ids.tolist())]
    style = style_of(model.tokenizer.get_vocab())
    texts = readable(pieces, style)
    starts = np.array([starts_word(piece, style) for piece in pieces], dtype=bool)
    doc = np.asarray(columns.doc)
    words = rebuild_words(token, texts=texts, starts=starts, doc=doc)
    docs = DocTable(list(store.labels), list(store.titles), np.asarray(store.held_out))
    spans = np.asarray(store.doc_spans)
    labels, label_of_doc = _common_labels(docs, spans[:, 1] > spans[:, 0])
    n_words = len(words.strings)
    both = np.where(words.previous >= 0, words.previous * n_words + words.word, -1)
    return _Rows(
        token=token,
        texts=texts,
        doc=doc,
        spans=spans,
        docs=docs,
        held_out=docs.held_out[doc],
        words=words,
        units={
            "word": words.word,
            "previous": words.previous,
            "bigram": both,
            "next": words.next,
        },
        label_of_doc=label_of_doc,
        labels=labels,
    )


def _common_labels(docs: DocTable, has_rows: npt.NDArray[np.bool_]) -> tuple[list[str], Ints]:
    """Labels with enough documents in both splits, and the label of each document (or -1)."""
    counts = [
        Counter(label for label, kept in zip(docs.label, which, strict=True) if kept)
        for which in (has_rows & ~docs.held_out, has_rows & docs.held_out)
    ]
    names = sorted(
        label
        for label in counts[0].keys() & counts[1].keys()
        if label is not None and min(count[label] for count in counts) >= _MIN_DOCS
    )
    ids = {name: i for i, name in enumerate(names)}
    of_doc = np.array(
        [ids.get(label, -1) if label is not None else -1 for label in docs.label], dtype=np.int64
    )
    return names, of_doc


def _encode(sae: SAE, store: ActivationStore, hook_name: str, folder: Path) -> Codes:
    writer = CodeWriter(folder, n_latents=sae.config.n_latents)
    batches = store.stream(split="all", batch_tokens=_BATCH_TOKENS, hook_name=hook_name)
    with progress.task("index", total=store.n_tokens, unit="tokens") as task, torch.no_grad():
        for batch in batches:
            writer.append(sae.encode(batch.x.to(sae.device)))
            task.advance(len(batch.x))
    return writer.close()


def _range(
    codes: Codes,
    first: int,
    last: int,
    rows: _Rows,
    *,
    level: npt.NDArray[np.int8],
    fired_train: Ints,
    n_examples: int,
    window: int,
    seed: int,
) -> _Range:
    entries = codes.entries(first, last)
    pooled = pool_documents(entries.latent - first, entries.row, entries.value, doc_of_row=rows.doc)
    has_rows = rows.spans[:, 1] > rows.spans[:, 0]
    n_latents, n_labels = last - first, len(rows.labels)
    train, held = (
        label_test(
            pooled,
            n_latents=n_latents,
            label_of_doc=rows.label_of_doc,
            n_labels=n_labels,
            docs=has_rows & split,
        )
        for split in (~rows.docs.held_out, rows.docs.held_out)
    )
    stats = latent_stats(entries, first, last, held_out_row=rows.held_out)
    coded = encode(
        entries.row,
        entries.value,
        starts=np.flatnonzero(np.diff(entries.latent, prepend=-1)),
        largest=stats.max_act[entries.latent - first],
    )
    return _Range(
        stats,
        train.auroc.astype(np.float32),
        held.auroc.astype(np.float32),
        _contexts(codes, pooled, first, last, rows, n_examples, window, seed),
        {
            name: unit_masses(entries, unit, held_out_row=rows.held_out)
            for name, unit in rows.units.items()
        },
        np.where(stats.n_fired_train[:, None] > 0, train.p_value, np.nan),
        coactivation(
            codes, entries, first, last,
            train_row=lambda row: ~rows.held_out[row], fired_train=fired_train, level=level,
        ),
        *coded,
    )  # fmt: skip


def _contexts(
    codes: Codes,
    pooled: Pooled,
    first: int,
    last: int,
    rows: _Rows,
    n_examples: int,
    window: int,
    seed: int,
) -> ContextTable:
    held = rows.docs.held_out[pooled.doc]
    n = last - first
    shown, best = choose(
        pooled.take(~held), n_top=n_examples, n_spread=n_examples // 2, n_latents=n, seed=seed,
        first=first,
    )  # fmt: skip
    tested, _ = choose(
        pooled.take(held), n_top=0, n_spread=n_examples, n_latents=n, seed=seed, first=first
    )
    kind = np.r_[np.where(best, TOP, SPREAD), np.full(len(tested.latent), HELD_OUT)]
    both = Pooled(
        *(np.concatenate([getattr(shown, f.name), getattr(tested, f.name)]) for f in fields(Pooled))
    )
    order = np.lexsort((kind, both.latent))  # stable: strongest first within a kind
    chosen = both.take(order)
    chosen = Pooled(chosen.latent + first, chosen.doc, chosen.value, chosen.row)
    return windows(
        chosen,
        kind[order].astype(np.uint8),
        codes=codes,
        window=window,
        doc_spans=rows.spans,
        token=rows.token,
    )


def _join(
    found: list[_Range],
    rows: _Rows,
    *,
    sae: SAE,
    store: ActivationStore,
    model: SubjectModel,
    hook_name: str,
    window: int,
) -> LatentIndex:
    def joined(which: str) -> Neighbours | None:
        tables = [getattr(part.family, which) for part in found]
        return None if tables[0] is None else Neighbours(**stacked(tables, Neighbours))

    def stacked(tables: list[object], kind: type) -> dict[str, npt.NDArray[np.generic]]:
        return {
            f.name: np.concatenate([getattr(table, f.name) for table in tables])
            for f in fields(kind)
        }

    n_docs = [
        np.bincount(of[of >= 0], minlength=len(rows.labels))
        for of in (rows.label_of_doc[~rows.docs.held_out], rows.label_of_doc[rows.docs.held_out])
    ]
    stats = LatentStats(**stacked([part.stats for part in found], LatentStats))
    return LatentIndex(
        hook_name=hook_name,
        n_tokens=len(rows.token),
        n_tokens_train=int((~rows.held_out).sum()),
        window=window,
        source={"sae": sae.config.model_dump(mode="json"), "store": store.manifest},
        stats=stats,
        label_table=LabelTable(
            names=rows.labels,
            n_docs_train=n_docs[0],
            n_docs_held_out=n_docs[1],
            auroc_train=np.concatenate([part.auroc_train for part in found]),
            auroc_held_out=np.concatenate([part.auroc_held_out for part in found]),
            q_train=adjusted(np.concatenate([part.p_train for part in found])).astype(np.float32),
        ),
        contexts=ContextTable(**stacked([part.contexts for part in found], ContextTable)),
        token_texts=rows.texts,
        docs=rows.docs,
        units={name: _unit_table(name, found, rows, sae.config.n_latents) for name in rows.units},
        decoder_neighbours=nearest_latents(sae.W_dec, live=np.flatnonzero(stats.n_fired)),
        coactivation=Neighbours(**stacked([part.family.near for part in found], Neighbours)),
        parents=joined("parents"),
        children=joined("children"),
        level=levels(sae.config.n_latents, _widths(sae)),
        widths=_widths(sae),
        logits=logit_table(model, sae.W_dec, hook_name=sae.target_hook_name or hook_name),
        lists=CodedLists(
            np.r_[0, np.cumsum(stats.n_fired)],
            np.concatenate([part.step for part in found]),
            np.concatenate([part.share for part in found]),
        ),
        doc_tokens=DocTokens(np.r_[0, rows.spans[:, 1]], rows.token.astype(np.int32)),
    )


def _unit_table(name: str, found: list[_Range], rows: _Rows, n_latents: int) -> UnitTable:
    strings = rows.words.strings

    def spell(unit: int) -> str:
        if name != "bigram":
            return strings[unit]
        return f"{strings[unit // len(strings)]} {strings[unit % len(strings)]}"

    return join_masses(
        [part.masses[name] for part in found],
        n_latents=n_latents,
        train_units=rows.units[name][~rows.held_out],
        spell=spell,
    )
