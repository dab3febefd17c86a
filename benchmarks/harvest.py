"""Harvest against the bare forward pass, in one interleaved run; prints a table of ratios.

    python benchmarks/harvest.py [--stories DIR] [--saelens-python PYTHON] [--rounds 5]

The bare forward runs the Hugging Face model on the same padded batches, tokenized before, with one
hook that stops it after the same layer, and keeps nothing. The harvest tokenizes, runs, drops
special tokens and padding, orders rows, and writes a store. Tokens are rows of the store.

Memory is the peak above what the process held when the work began, in a child process each: model
and texts loaded, two batches run (Linux only). SAELens' child measures its own in the same way.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peak import peak_bytes

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


def layers_of(model: SubjectModel) -> torch.nn.ModuleList:
    """The layers of a BERT or a Llama."""
    inner = getattr(model.hf, "encoder", None)
    return inner.layer if inner is not None else model.hf.model.layers  # type: ignore[union-attr,return-value]


def harvested(
    model: SubjectModel, texts: list[str], out: Path, args: Any, **settings: Any
) -> st.ActivationStore:
    """Harvest the middle layer."""
    hook = f"resid_post.{len(layers_of(model)) // 2}"
    settings = {"ctx_len": model.ctx_len, "batch_tokens": args.batch_tokens, **settings}
    return st.harvest(model, texts, hook_name=hook, out=out, **settings)


def packed(model: SubjectModel) -> dict[str, Any]:
    """Settings under which a harvest does what SAELens' runner does."""
    return {"dtype": "float32", "ctx_len": min(128, model.ctx_len), "packing": "joined"}


def print_peak(model: SubjectModel, texts: list[str], args: Any) -> None:
    """In a child: the memory that one kind of work takes."""
    layers = layers_of(model)
    run = bare(model, layers, len(layers) // 2)
    batches = batches_of(model, texts, args.batch_tokens)
    run(batches[:2])
    with tempfile.TemporaryDirectory(dir=args.disk) as folder:
        settings = packed(model) if args.peak_of == "packed" else {}
        if args.peak_of == "bare":
            print(peak_bytes(lambda: run(batches)))
        else:
            out = Path(folder) / "acts.h5"
            print(peak_bytes(lambda: harvested(model, texts, out, args, **settings).close()))


def memory(source: str, kind: str, args: Any) -> str:
    """The peak of a kind of work (bare, harvest, packed) in a child of its own, in MiB."""
    command = [sys.executable, __file__, "--peak-of", kind, "--model", source]
    for name in ("documents", "batch_tokens", "threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    command += ["--disk", args.disk] if args.disk else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return in_mib(json.loads(done.stdout.strip().splitlines()[-1].replace("None", "null")))


def in_mib(n_bytes: int | None) -> str:
    """Bytes for people; "?" where they are not known."""
    return "?" if n_bytes is None else f"{n_bytes / 2**20:,.0f} MiB"


def compare(source: str, model: SubjectModel, texts: list[str], args: Any) -> None:
    """Time harvest and bare forward in turns and print a line."""
    layers = layers_of(model)
    layer = len(layers) // 2
    batches = batches_of(model, texts, args.batch_tokens)
    run = bare(model, layers, layer)
    run(batches[:2])
    taken: dict[str, list[float]] = {"bare": [], "harvest": [], "write": []}
    with tempfile.TemporaryDirectory(dir=args.disk) as folder:
        for number in range(args.rounds):
            writes: list[float] = []
            begun = time.perf_counter()
            with timed_writes(writes):
                store = harvested(model, texts, Path(folder) / f"{number}.h5", args)
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
        f"| {Path(source).name} | {n_tokens:,} | {n_tokens / middle['bare']:,.0f} | "
        f"{n_tokens / middle['harvest']:,.0f} | {ratio:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) | "
        f"{'met' if ratio >= _TARGET else 'MISSED'} | {middle['write'] / middle['harvest']:.1%} | "
        f"{memory(source, 'harvest', args)} | {memory(source, 'bare', args)} |"
    )


def against_saelens(model: SubjectModel, folder: str, texts: list[str], args: Any) -> None:
    """Time a harvest of packed sequences and SAELens' runner on as many tokens, in turns."""
    ctx_len, layer = packed(model)["ctx_len"], len(layers_of(model)) // 2
    ids = [t for text in texts for t in model.tokenizer.encode(text)]
    rows = [ids[i : i + ctx_len] for i in range(0, len(ids) - ctx_len, ctx_len)]
    size = args.batch_tokens // ctx_len
    pairs = []
    with tempfile.TemporaryDirectory(dir=args.disk) as scratch:
        path = Path(scratch) / "tokens.json"
        path.write_text(json.dumps(rows))
        script = str(Path(__file__).with_name("saelens_harvest.py"))
        settings = [
            folder,
            f"model.layers.{layer}",
            path,
            size,
            model.d_model,
            "float32",
            args.threads,
        ]
        for number in range(args.rounds):
            begun = time.perf_counter()
            out = Path(scratch) / f"{number}.h5"
            with harvested(model, texts, out, args, **packed(model)) as store:
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
        f"{ours:,.0f}; ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}); "
        f"peak memory {in_mib(theirs['peak_bytes'])}, of this harvest "
        f"{memory(folder, 'packed', args)}"
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
    parser.add_argument("--peak-of", choices=["bare", "harvest", "packed"], help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    corpus = st.load_corpus({"type": "stdlib_docs"})
    texts = [document.text for document in corpus][: args.documents]
    if args.peak_of:
        with progress.use("silent"):
            print_peak(st.load_model(args.model, device="cpu"), texts, args)
        return
    print(f"torch {torch.__version__}, {args.threads} thread(s), load {os.getloadavg()[0]:.1f}\n")
    print(
        "| model | tokens | bare tokens/s | harvest tokens/s | ratio | >= 0.9 | write share "
        "| memory | bare memory |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with progress.use("silent"):
        compare("minilm", st.load_model("minilm", device="cpu"), texts, args)
        if args.stories:
            small = st.load_model(args.stories, device="cpu")
            compare(args.stories, small, texts, args)
            if args.saelens_python:
                against_saelens(small, args.stories, texts, args)


if __name__ == "__main__":
    main()
