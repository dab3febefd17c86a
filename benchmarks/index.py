"""Indexing: against the bare forward of the same tokens, its size, its memory, and its queries.

    python benchmarks/index.py --run runs/demo
    python benchmarks/index.py --n-latents 65536 --n-tokens 500000 --k 32

With `--run` the SAE and store of a run are indexed, and the model reads the same tokens up to the
SAE's hook (the forward that harvesting takes; it writes nothing), in turn; the ratio is index
seconds over forward seconds. Without it activations are drawn: latents by a power law, values
exponential, words by Zipf's law; encoding costs next to nothing, so the seconds are those of the
index alone, of activations that know nothing of words (which makes the tables of words as large as
they get). Queries are timed on the index as it was loaded. Nothing is kept.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import torch
from peak import peak_bytes

import saetools as st
from saetools.analysis import LatentIndex, index_latents, nearest_to
from saetools.models.base import SubjectModel
from saetools.naming import Name, NameSearch, NamesTable
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore, StoreWriter, TokenColumns
from saetools.types import SparseLatents

HOOK = "blocks.0.hook_resid_post"
N_WORDS, DOC_LEN, WIDTH = 20_000, 256, 8


def main() -> None:
    """Index once, time the queries, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder; without it activations are drawn")
    parser.add_argument("--n-latents", type=int, default=65_536)
    parser.add_argument("--n-tokens", type=int, default=500_000)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3, help="of forward and index, with --run")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.run is not None:
            model, sae, store = opened(options.run)
            seconds = against_forward(model, sae, store, folder, options.repeats)
        else:
            store, sae = drawn(folder, options.n_latents, options.n_tokens, options.k)
            model = SimpleNamespace(tokenizer=Words())
            seconds = {}
        report(sae, store, model, folder / "index.h5", seconds)
    print(
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, load {load:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after, torch {torch.__version__}"
    )


def report(
    sae: SAE, store: ActivationStore, model: SubjectModel, out: Path, seconds: dict[str, float]
) -> None:
    """Index with the peak of memory, then sizes and queries."""
    begun = time.monotonic()
    peak = peak_bytes(lambda: index_latents(sae, store, model=model, out=out))
    took = time.monotonic() - begun
    index = LatentIndex.load(out)
    n_tokens, n_acts = index.n_tokens, int(index.stats.n_fired.sum())
    with h5py.File(out) as file:
        lists = sum(file[f"lists/{name}"].id.get_storage_size() for name in ("step", "share"))
        tokens = file["doc_tokens/token"].id.get_storage_size()
    size = out.stat().st_size
    print(
        f"{index.n_latents:,} latents, {n_tokens:,} tokens, {n_acts / n_tokens:.1f} active a token"
    )
    for name, value in seconds.items():
        print(f"  {name:<34} {value:,.2f}")
    print(f"  {'index, tokens a second':<34} {n_tokens / took:,.0f}")
    if peak is not None and not seconds:  # else earlier work left memory that is used again
        print(f"  {'peak memory, MB':<34} {peak / 1e6:,.0f}")
    print(f"  {'index, MB':<34} {size / 1e6:,.1f}")
    print(f"  {'index, MB a million tokens':<34} {size / n_tokens:,.1f}")
    print(f"  {'of which lists, bytes an activation':<34} {lists / n_acts:.2f}")
    print(f"  {'of which tokens, bytes a token':<34} {tokens / n_tokens:.2f}")
    fixed = (size - lists - tokens) / index.n_latents
    print(f"  {'the rest, bytes a latent':<34} {fixed:,.0f}")
    for name, query in queries(index, sae, out).items():
        first, again = timed(query, 1), timed(query, 5)
        print(f"  {name:<34} {first * 1e3:,.1f} ms, then {again * 1e3:,.1f} ms")


def queries(index: LatentIndex, sae: SAE, out: Path) -> dict[str, Callable[[], object]]:
    """One of each kind, on the latent that fires most and the words that it fires on."""
    latent = int(index.stats.n_fired.argmax())
    word = index.units["word"].of(latent).text[0]
    table = NamesTable(
        Name(i, f"{index.units['word'].strings[i % 100]} {i}", 0.5, "It fires on it.", "bench")
        for i in range(index.n_latents)
    )
    search = NameSearch(table)
    found = {
        "load": lambda: LatentIndex.load(out),
        "by latent": lambda: (index[latent], index.coactivation.of(latent)),
        "by word": lambda: index.on_word(word),
        "postings of the densest latent": lambda: index.postings(latent),
        "a window of it": lambda: index.context_at(latent, 0, 0),
        "by direction": lambda: nearest_to(sae.W_dec[latent], sae.W_dec, live=index.live),
        "names: build the search": lambda: NameSearch(table),
        "by name": lambda: search.find(f"{index.units['word'].strings[1]} 65"),
    }
    if index.labels:
        found["by label"] = lambda: index.best_latents(index.labels[0])
    return found


def timed(query: Callable[[], object], n: int) -> float:
    """Median seconds of a query."""
    found = []
    for _ in range(n):
        begun = time.monotonic()
        query()
        found.append(time.monotonic() - begun)
    return statistics.median(found)


def opened(run: Path) -> tuple[SubjectModel, SAE, ActivationStore]:
    """What a run folder holds."""
    config = st.load_config(run / "config.yaml")
    model = st.load_model(config.subject.model, kind=config.subject.kind)
    return model, SAE.load(run / "sae"), ActivationStore.open(run / "acts.h5")


def against_forward(
    model: SubjectModel, sae: SAE, store: ActivationStore, folder: Path, repeats: int
) -> dict[str, float]:
    """Median seconds of the forward and of the index, in turn, and the median of the ratios."""
    hook = str(sae.meta.get("hook_name") or store.hook_name)
    documents = [
        store.columns(start, stop).token_ids.tolist()
        for start, stop in store.doc_spans.tolist()
        if stop > start
    ]
    forward, index, rest = [], [], []
    for _ in range(repeats):
        forward.append(timed(lambda: run_forward(model, documents, hook), 1))
        index.append(
            timed(
                lambda: index_latents(sae, store, model=model, out=folder / "i.h5", resume=False), 1
            )
        )
        rest.append(index[-1] - timed(lambda: run_encoder(sae, store, hook), 1))
    ratios = [b / a for a, b in zip(forward, index, strict=True)]
    return {
        "bare forward, seconds": statistics.median(forward),
        "index, seconds": statistics.median(index),
        "of which not the SAE's encoder": statistics.median(rest),
        "index over forward": statistics.median(ratios),
        "lowest ratio": min(ratios),
        "highest ratio": max(ratios),
    }


def run_forward(model: SubjectModel, documents: list[list[int]], hook: str) -> None:
    """Read all documents up to the hook, 4096 tokens or so at a time, like lengths together."""
    documents = sorted(documents, key=len)
    batch: list[list[int]] = []
    for document in documents:
        if batch and (len(batch) + 1) * len(document) > 4096:
            model.activations(model.tokenize(batch), [hook])
            batch = []
        batch.append(document)
    model.activations(model.tokenize(batch), [hook])


def run_encoder(sae: SAE, store: ActivationStore, hook: str) -> None:
    """Read the store and encode it."""
    with torch.no_grad():
        for batch in store.stream(batch_tokens=4096, hook_name=hook):
            sae.encode(batch.x)


class Words:
    """A tokenizer of whole words."""

    def get_vocab(self) -> dict[str, int]:
        return {f"w{i}": i for i in range(N_WORDS)}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"w{i}" for i in ids]


def drawn(folder: Path, n_latents: int, n_tokens: int, k: int) -> tuple[ActivationStore, SAE]:
    """A store of drawn words, and an SAE whose latents are drawn."""
    rng = np.random.default_rng(0)
    n_docs = -(-n_tokens // DOC_LEN)
    path = folder / "acts.h5"
    write_store(path, rng, n_tokens, n_docs)
    sae = build_sae("topk", d_in=WIDTH, n_latents=n_latents, k=k, meta={"hook_name": HOOK})
    generator = torch.Generator().manual_seed(0)

    def encode(x: torch.Tensor) -> SparseLatents:
        """Latent ⌊n · u³⌋ for k draws u; a latent drawn twice counts once."""
        u = torch.rand(len(x), k, generator=generator)
        indices = (u**3 * n_latents).long().sort(dim=1).values
        values = torch.empty(len(x), k).exponential_(generator=generator)
        values[:, 1:][indices[:, 1:] == indices[:, :-1]] = 0
        return SparseLatents(values, indices, n_latents)

    sae.encode = encode  # type: ignore[method-assign]
    return ActivationStore.open(path), sae


def write_store(path: Path, rng: np.random.Generator, n_tokens: int, n_docs: int) -> None:
    """Rows of zeros with words drawn by Zipf's law; a tenth of the documents held out."""
    manifest = {
        "model": {"name": "drawn", "kind": "text_encoder"},
        "corpus": {"name": "drawn", "n_docs": n_docs},
        "widths": {HOOK: WIDTH},
        "dtype": "float16",
    }
    row = np.arange(n_tokens)
    word = (N_WORDS ** rng.random(n_tokens)).astype(np.int32) - 1
    columns = TokenColumns(word, (row // DOC_LEN).astype(np.int32), (row % DOC_LEN).astype("i4"))
    with StoreWriter(
        path,
        manifest=manifest,
        labels=[f"label{i % 10}" for i in range(n_docs)],
        titles=[f"document {i}" for i in range(n_docs)],
        held_out=rng.random(n_docs) < 0.1,
    ) as writer:
        writer.commit({HOOK: torch.zeros(n_tokens, WIDTH)}, columns, n_docs_done=n_docs)
        writer.finish()


if __name__ == "__main__":
    main()
