"""FVU of SAEs that ours and other libraries train on the very same rows in the same order.

    python benchmarks/train_quality.py [--peers-python PYTHON] [--stories DIR --texts FILE]
        [--results FILE] [--seconds S] [--quick]

Stores: layer 3 of MiniLM on the documentation of Python's standard library, and, where --stories
names a Llama-shaped model and --texts its texts, layer 2 of that. A seed decides the initial
weights and the order of the rows. Each library trains with its own optimiser, initialisation,
dead-latent rule and normalisation (SAELens: expected_average_only_in; dictionary_learning:
normalize_activations), and in one of two ways:

    as it comes  ours: learning rate 3e-3 with a rise over 5 % and a fall over 20 % of the run;
                 SAELens: 3e-4, constant; dictionary_learning: 2e-4 sqrt(16384 / n_latents), a rise
                 over 1000 steps
    set as ours  the peers with the learning rate, rise and fall that ours has by default; SAELens,
                 which starts b_dec at zero and calls a latent dead after 1000 steps, also with the
                 mean as b_dec and with ours for the dead

One and the same code evaluates all on held-out rows: FVU with the dataset's mean removed, over all
rows together, once with the threshold the library keeps for inference and once with the threshold
at which exactly k latents a token are active there. Ours is no worse where its mean is at most
theirs plus half the larger of the two ranges over seeds. A results file lets a run go on where it
stopped (--seconds).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from trainers.child import Child
from trainers.sizes import ARCHS, Size
from trainers.weights import Weights, evaluate

import saetools as st
from saetools import progress

_HELD_OUT = 16_384
_READ_AT_ONCE = 1024


class Subject(NamedTuple):
    """A model, its texts, a hook, and what is trained there."""

    name: str
    model: str
    corpus: Mapping[str, Any]
    hook_name: str
    n_tokens: int
    size: Size
    n_steps: int


class Library(NamedTuple):
    """A column of the comparison: a library with a schedule."""

    title: str
    module: str
    schedule: str


OURS = Library("saetools", "of_saetools", "as it comes")
PEERS = tuple(
    Library(f"{title}, {schedule}", module, schedule)
    for title, module in (
        ("SAELens", "of_saelens"),
        ("dictionary_learning", "of_dictionary_learning"),
    )
    for schedule in ("as it comes", "set as ours")
)


def subjects(args: argparse.Namespace) -> list[Subject]:
    """What can be trained on here."""
    steps, batch = args.steps, args.batch_tokens
    docs = {"type": "stdlib_docs", "n_docs": 2000}
    found = [
        Subject("minilm", "minilm", docs, "resid_post.3", 150_000, Size(batch, 384, 768, 16), steps)
    ]
    if args.stories and args.texts:
        texts = {"type": "files", "path": str(args.texts)}
        size = Size(batch, 64, 512, 8)
        found.append(
            Subject(
                Path(args.stories).name, args.stories, texts, "resid_post.2", 400_000, size, steps
            )
        )
    return [subject for subject in found if not args.stores or subject.name in args.stores]


def harvest(subject: Subject, folder: Path) -> Path:
    """The store of a subject, made if it is not there."""
    path = folder / f"{subject.name}.h5"
    if not path.exists():
        model = st.load_model(subject.model, device="cpu")
        corpus = st.load_corpus(dict(subject.corpus))
        with progress.use("silent"):
            st.harvest(
                model,
                corpus,
                hook_name=subject.hook_name,
                out=path,
                n_tokens=subject.n_tokens,
                ctx_len=128,
                held_out_fraction=0.2,
            ).close()
    return path


def write_rows(subject: Subject, store_path: Path, seed: int, out: Path) -> None:
    """The rows of a run in the order in which ours reads them, as the store holds them."""
    size, done = subject.size, 0
    rows = np.lib.format.open_memmap(out, "w+", np.float16, (subject.n_steps * size.n, size.d_in))
    with st.ActivationStore.open(store_path) as store:
        per_epoch = store.n_batches(size.n)
        while done < subject.n_steps:
            for x in store.batches(size.n, seed=seed, epoch=done // per_epoch):
                if done < subject.n_steps:
                    rows[done * size.n : (done + 1) * size.n] = x.numpy()
                    done += 1
    rows.flush()


def schedule_of(library: Library, subject: Subject) -> dict[str, Any] | None:
    """None for what a library does by itself; else what ours does, in steps."""
    if library.schedule == "as it comes":
        return None
    n_steps = subject.n_steps
    config = st.TrainConfig(n_tokens=n_steps * subject.size.n, batch_tokens=subject.size.n)
    return {
        "lr": config.peak_lr(subject.size.n_latents),
        "warmup_steps": round(config.warmup_fraction * n_steps),
        "decay_steps": round(config.decay_fraction * n_steps),
        "dead_steps": config.dead_window // config.batch_tokens,
    }


def run_all(
    args: argparse.Namespace, scratch: Path, results: dict[str, Any], children: dict[str, Child]
) -> bool:
    """Train and evaluate what is not in `results` yet; whether all of it is there now."""
    deadline = time.monotonic() + args.seconds
    for subject in subjects(args):
        for seed in range(args.seeds):
            left = [
                (arch, library)
                for arch in args.archs
                for library in libraries(args)
                if key(subject, arch, library, seed) not in results
            ]
            if not left:
                continue
            store, rows = harvest(subject, scratch), scratch / "rows.npy"
            write_rows(subject, store, seed, rows)
            with st.ActivationStore.open(store) as held:
                batches = held.batches(_READ_AT_ONCE, seed=0, split="held_out")
                x = torch.cat(list(batches))[:_HELD_OUT]
            for arch, library in left:
                if time.monotonic() > deadline:
                    return False
                if library.module not in children:
                    python = None if library == OURS else args.peers_python
                    children[library.module] = Child(
                        library.module, python=python, threads=args.threads
                    )
                weights, seconds = _trained(
                    children[library.module], subject, arch, library, seed, store, scratch
                )
                found = evaluate(weights, x, subject.size.k, per_token=arch == "topk")
                found |= {"seconds": seconds, "versions": children[library.module].versions}
                results[key(subject, arch, library, seed)] = found
                if args.results:
                    args.results.write_text(json.dumps(results, indent=1))
    return True


def _trained(
    child: Child,
    subject: Subject,
    arch: str,
    library: Library,
    seed: int,
    store: Path,
    scratch: Path,
) -> tuple[Weights, float]:
    job = {
        "arch": arch,
        "size": list(subject.size),
        "n_steps": subject.n_steps,
        "seed": seed,
        "schedule": schedule_of(library, subject),
        "store": str(store),
        "rows": str(scratch / "rows.npy"),
        "out": str(scratch / "weights.npz"),
    }
    seconds = child.ask("train", job=job)["seconds"]
    return Weights.read(scratch / "weights.npz"), seconds


def libraries(args: argparse.Namespace) -> tuple[Library, ...]:
    """Those that can run."""
    return (OURS, *PEERS) if args.peers_python else (OURS,)


def key(subject: Subject, arch: str, library: Library, seed: int) -> str:
    """What identifies a run in the results file."""
    sizes = "x".join(map(str, (*subject.size, subject.n_steps)))
    return f"{subject.name}|{sizes}|{arch}|{library.module}|{library.schedule}|{seed}"


def report(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Print a table for each store."""
    for subject in subjects(args):
        size = subject.size
        print(
            f"\n### {subject.name}, {subject.hook_name}: n {size.n}, d_in {size.d_in}, "
            f"n_latents {size.n_latents}, k {size.k}, {subject.n_steps} steps\n"
        )
        print(
            "| | FVU at L0 = k, mean (range) | own threshold: FVU, L0 | mean FVU of prefixes ",
            end="",
        )
        print("| unused | seconds | ours no worse |\n|---|---|---|---|---|---|---|")
        for arch in args.archs:
            lines = {
                library: found
                for library in libraries(args)
                if (
                    found := [
                        results[name]
                        for seed in range(args.seeds)
                        if (name := key(subject, arch, library, seed)) in results
                    ]
                )
            }
            for library, found in lines.items():
                _print_line(arch, library, found, lines.get(OURS, []))


def _print_line(
    arch: str, library: Library, found: list[dict[str, Any]], ours: list[dict[str, Any]]
) -> None:
    def mean(name: str) -> float:
        return statistics.mean(run[name] for run in found)

    fvu = [run["fvu"] for run in found]
    own = "" if arch == "topk" else f"{mean('own_fvu'):.4f}, {mean('own_l0'):.1f}"
    prefixes = f"{mean('prefix_fvu'):.4f}" if arch == "matryoshka" else ""
    verdict = ""
    if library != OURS and ours:
        mine = [run["fvu"] for run in ours]
        noise = max(max(side) - min(side) for side in (mine, fvu)) / 2
        better = statistics.mean(mine) <= statistics.mean(fvu) + noise
        change = statistics.mean(mine) / statistics.mean(fvu) - 1
        verdict = f"{'yes' if better else 'NO'} ({change:+.1%})"
    print(
        f"| {arch}: {library.title} | {mean('fvu'):.4f} ({min(fvu):.4f}-{max(fvu):.4f}) | {own} "
        f"| {prefixes} | {mean('unused'):.1%} | {mean('seconds'):.0f} | {verdict} |"
    )


def main() -> None:
    """Read the arguments, run what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers-python", help="Python of an environment that has the peers")
    parser.add_argument("--stories", help="folder of a Llama-shaped language model")
    parser.add_argument("--texts", type=Path, help="its texts, e.g. a .jsonl.gz")
    parser.add_argument("--stores", nargs="+", help="only these")
    parser.add_argument("--archs", nargs="+", choices=ARCHS, default=list(ARCHS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="dictionary_learning needs > 1000")
    parser.add_argument("--batch-tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, help="JSON of finished runs, read and written")
    parser.add_argument("--scratch", type=Path, help="folder for stores and rows, kept")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no run after")
    parser.add_argument("--quick", action="store_true", help="one store, one seed, few steps")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.steps, args.batch_tokens = 1, 1100, 128
        args.stores = args.stores or ([Path(args.stories).name] if args.stories else None)
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {}
    if args.results and args.results.exists():
        results = json.loads(args.results.read_text())
    with tempfile.TemporaryDirectory() as folder:
        scratch = args.scratch or Path(folder)
        scratch.mkdir(parents=True, exist_ok=True)
        children: dict[str, Child] = {}
        complete = run_all(args, scratch, results, children)
        for child in children.values():
            child.close()
    versions = {json.dumps(run["versions"]) for run in results.values()}
    print("\n".join(f"- {held}" for held in sorted(versions)))
    report(args, results)
    if not complete:
        print("\nnot complete: run it again with the same --results to go on")


if __name__ == "__main__":
    main()
