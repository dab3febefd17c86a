"""Harvest against the bare forward pass, in one interleaved run; prints a table of ratios.

    python benchmarks/harvest.py [--stories DIR] [--saelens-python PYTHON] [--rounds 5]

The bare forward runs the Hugging Face model on the same padded batches, tokenized before, with one
hook that stops it after the same layer, and keeps nothing. The harvest tokenizes, runs, drops
special tokens and padding, orders rows, and writes a store. Tokens are rows of the store.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import saetools as st
from saetools import progress
from saetools.harvest.batching import groups, length_batches
from saetools.harvest.job import Job, as_corpus
from saetools.harvest.layout import as_batch, windows
from saetools.models.base import SubjectModel, TokenBatch
from saetools.store import StoreWriter

_TARGET = 0.9
_GROUP_TOKENS = 32_768


class Stopped(Exception):  # noqa: N818 (ends a forward pass)
    """The layer wanted has been seen."""


def batches_of(model: SubjectModel, texts: list[str], batch_tokens: int) -> list[TokenBatch]:
    """The padded batches that a harvest makes."""
    corpus = as_corpus(texts)
    job = Job(model, corpus, (), "float16", model.ctx_len, batch_tokens, None, 0.1, 0)
    found = []
    for group in groups(corpus.documents, group_tokens=_GROUP_TOKENS, ctx_len=job.doc_tokens):
        laid = windows(job, [d.text for d in corpus[group.start : group.stop]])
        lengths = [len(window.ids) for window in laid]
        cut = length_batches(lengths, batch_tokens=batch_tokens)
        found += [as_batch(job, [laid[i] for i in batch]) for batch in cut]
    return found


def bare(model: SubjectModel, layers: torch.nn.ModuleList, layer: int) -> Callable[..., None]:
    """A forward pass that stops after a layer and keeps nothing."""

    def stop(*_: Any) -> None:
        raise Stopped

    def run(batches: list[TokenBatch]) -> None:
        handle = layers[layer].register_forward_hook(stop)
        try:
            with torch.no_grad():
                for tokens in batches:
                    try:
                        model.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long())
                    except Stopped:
                        continue
        finally:
            handle.remove()

    return run


@contextmanager
def timed_writes(seconds: list[float]) -> Iterator[None]:
    """Note how long each commit takes."""
    commit = StoreWriter.commit

    def timed(*args: Any, **kwargs: Any) -> None:
        begun = time.perf_counter()
        commit(*args, **kwargs)
        seconds.append(time.perf_counter() - begun)

    StoreWriter.commit = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        StoreWriter.commit = commit  # type: ignore[method-assign]


def peak_bytes() -> int:
    """Most memory that the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare(
    title: str, model: SubjectModel, layers: torch.nn.ModuleList, texts: list[str], args: Any
) -> None:
    """Time harvest and bare forward in turns and print a line."""
    layer = len(layers) // 2
    batches = batches_of(model, texts, args.batch_tokens)
    run = bare(model, layers, layer)
    run(batches[:2])
    before = peak_bytes()
    taken: dict[str, list[float]] = {"bare": [], "harvest": [], "write": []}
    with tempfile.TemporaryDirectory(dir=args.disk) as folder:
        for number in range(args.rounds):
            writes: list[float] = []
            begun = time.perf_counter()
            with timed_writes(writes):
                store = st.harvest(
                    model,
                    texts,
                    hook_name=f"resid_post.{layer}",
                    out=Path(folder) / f"{number}.h5",
                    batch_tokens=args.batch_tokens,
                    ctx_len=model.ctx_len,
                )
            taken["harvest"].append(time.perf_counter() - begun)
            taken["write"].append(sum(writes))
            begun = time.perf_counter()
            run(batches)
            taken["bare"].append(time.perf_counter() - begun)
            n_tokens = store.n_tokens
            store.close()
            (Path(folder) / f"{number}.h5").unlink()
    ratios = sorted(b / h for b, h in zip(taken["bare"], taken["harvest"], strict=True))
    middle = {name: statistics.median(values) for name, values in taken.items()}
    ratio = statistics.median(ratios)
    print(
        f"| {title} | {n_tokens:,} | {n_tokens / middle['bare']:,.0f} | "
        f"{n_tokens / middle['harvest']:,.0f} | {ratio:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) | "
        f"{'met' if ratio >= _TARGET else 'MISSED'} | {middle['write'] / middle['harvest']:.1%} | "
        f"{(peak_bytes() - before) / 2**20:,.0f} MiB |"
    )


def against_saelens(model: SubjectModel, folder: str, texts: list[str], args: Any) -> None:
    """Time a harvest of packed sequences and SAELens' runner on as many tokens, in turns."""
    ctx_len, layer = min(128, model.ctx_len), len(model.hf.model.layers) // 2  # type: ignore[union-attr,arg-type]
    ids = [t for text in texts for t in model.tokenizer.encode(text)]
    rows = [ids[i : i + ctx_len] for i in range(0, len(ids) - ctx_len, ctx_len)]
    size = args.batch_tokens // ctx_len
    pairs = []
    with tempfile.TemporaryDirectory(dir=args.disk) as scratch:
        path = Path(scratch) / "tokens.json"
        path.write_text(json.dumps(rows))
        script = str(Path(__file__).with_name("saelens_harvest.py"))
        settings = [folder, f"model.layers.{layer}", path, size, model.d_model, "float32"]
        for number in range(args.rounds):
            begun = time.perf_counter()
            with st.harvest(
                model,
                texts,
                hook_name=f"resid_post.{layer}",
                out=Path(scratch) / f"{number}.h5",
                dtype="float32",
                ctx_len=ctx_len,
                packing="joined",
                batch_tokens=args.batch_tokens,
            ) as store:
                ours = store.n_tokens / (time.perf_counter() - begun)
            done = subprocess.run(
                [args.saelens_python, script, *map(str, settings)],
                env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(args.threads)},
                capture_output=True,
                text=True,
                check=True,
            )
            theirs = json.loads(done.stdout.strip().splitlines()[-1])
            pairs.append((ours, theirs["tokens"] / theirs["seconds"]))
    ratios = sorted(a / b for a, b in pairs)
    ours, theirs_rate = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"\nSAELens' CacheActivationsRunner on {Path(folder).name}, float32, "
        f"sequences of {ctx_len}, tokenized before: "
        f"{theirs_rate:,.0f} tokens/s; this harvest of the same texts, tokenizing included: "
        f"{ours:,.0f}; ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
    )


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", help="folder of a Llama-shaped language model")
    parser.add_argument("--saelens-python", help="Python of an environment that has sae-lens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--disk", help="folder to write to; the system's temporary one by default")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    corpus = st.load_corpus({"type": "stdlib_docs"})
    texts = [document.text for document in corpus][: args.documents]
    print(f"torch {torch.__version__}, {args.threads} thread(s), load {os.getloadavg()[0]:.1f}\n")
    print(
        "| model | tokens | bare tokens/s | harvest tokens/s | ratio | >= 0.9 | write share "
        "| memory |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with progress.use("silent"):
        model = st.load_model("minilm", device="cpu")
        compare("MiniLM", model, model.hf.encoder.layer, texts, args)
        if args.stories:
            small = st.load_model(args.stories, device="cpu")
            compare(Path(args.stories).name, small, small.hf.model.layers, texts, args)
            if args.saelens_python:
                against_saelens(small, args.stories, texts, args)


if __name__ == "__main__":
    main()
