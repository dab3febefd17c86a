"""What SAEs of each architecture find of a world whose truth is known, over seeds.

    python benchmarks/planted_world.py [--hook HOOK] [--docs N] [--tokens N] [--seeds N]
        [--latents N] [--k K] [--results FILE]

Reads the shipped model `planted` on texts of its world. TopK, BatchTopK and Matryoshka SAEs of each
seed train on the same rows in the same order, in one pass. Printed, mean (range) over seeds, all on
held-out documents: planted concepts with a latent of AUROC 0.9 or more by sort, hole rate and
absorption of the planted levels (bird, animal), FVU, L0. Then the seconds of the full evaluation,
metric by metric. `benchmarks/synthetic_rows.py` does the same for rows with planted directions.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import saetools as st
from saetools import progress
from saetools.corpus import Corpus
from saetools.evaluate import METRICS
from saetools.models import LanguageModel
from saetools.sae import SAE
from saetools.store import ActivationStore
from saetools.testbed import World
from saetools.testbed.concept_recovery import recover_concepts
from saetools.testbed.truth import WorldTruth, world_truth
from saetools.train import train_many

ARCHS = ("topk", "batch_topk", "matryoshka")
_FIGURES = ("fvu", "l0", "hole_rate", "absorption_full", "absorption_fraction", "split_latents")


def _people(world: World) -> list[str]:
    """Names of the people, whose attributes RAVEL is asked about."""
    return [entity.name for entity in world.entities if entity.kind == "person"]


def main() -> None:
    """Train, measure, print."""
    args = _arguments()
    results: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(args).items()}}
    with tempfile.TemporaryDirectory() as scratch, progress.use("silent"):
        results |= planted_world(args, Path(scratch))
    print("\nFull evaluation of one SAE, seconds:")
    for name, seconds in results["seconds"].items():
        print(f"  {name:<20} {seconds:6.1f}")
    print(f"  {'all':<20} {sum(results['seconds'].values()):6.1f}")
    if args.results:
        args.results.write_text(json.dumps(results, indent=1))


def planted_world(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Figures of every SAE, and the seconds of each metric on the first."""
    world, model = World.build(), st.load_model("planted")
    assert isinstance(model, LanguageModel)
    texts = world.documents(args.docs, seed=1)
    corpus = Corpus(tuple(text.document("topic") for text in texts), "planted_world:0")
    with st.harvest(
        model, corpus, hook_name=args.hook, out=scratch / "acts.h5", held_out_fraction=0.2
    ) as store:
        print(f"{store.n_tokens:,} tokens at {args.hook} of {model.name}")
        truth = world_truth(store, texts, model.tokenizer)
        saes = _train(args, store)
        runs = {name: _measured(sae, store, truth, model) for name, sae in saes.items()}
        _print_table(runs)
        seconds = _seconds(next(iter(saes.values())), store, truth, model, corpus, world)
    return {"runs": runs, "seconds": seconds}


def _train(args: argparse.Namespace, store: ActivationStore) -> dict[str, SAE]:
    size = {"d_in": store.d_in, "n_latents": args.latents, "k": args.k}
    saes = {
        f"{arch}-{seed}": st.build_sae(arch, seed=seed, **size)
        for seed in range(args.seeds)
        for arch in ARCHS
    }
    return train_many(saes, store, st.TrainConfig(n_tokens=args.tokens, batch_tokens=2048))


def _measured(
    sae: SAE, store: ActivationStore, truth: WorldTruth, model: LanguageModel
) -> dict[str, float]:
    found = recover_concepts(sae, store, truth)
    report = st.evaluate(
        sae,
        store,
        model=model,
        metrics=["reconstruction", "sparsity", "absorption"],
        concepts=truth.hierarchy(),
    )
    row: dict[str, float] = {"concepts": len(found.recovered()), "of": len(found.concepts)}
    for name, layer in found.by_layer().items():
        row[f"{name} ({layer.n_concepts})"] = layer.n_recovered
        row[f"{name}, median AUROC"] = layer.auroc
        row[f"{name}, median F1"] = layer.f1
    return row | {name: report.values.get(name, float("nan")) for name in _FIGURES}


def _seconds(
    sae: SAE,
    store: ActivationStore,
    truth: WorldTruth,
    model: LanguageModel,
    corpus: Corpus,
    world: World,
) -> dict[str, float]:
    """Wall time of every metric that applies, each in a run of its own."""
    given: dict[str, Any] = {
        "model": model,
        "corpus": corpus,
        "n_docs": 300,
        "concepts": truth.hierarchy(),
        "questions": world.questions("statement", _people(world), trained=True),
    }
    seconds = {}
    for name in METRICS.names():
        start = time.perf_counter()
        try:
            report = st.evaluate(sae, store, metrics=[name], **given)
        except st.SaetoolsError as error:
            print(f"left out {name}: {error}")
            continue
        if report.rows:
            seconds[name] = time.perf_counter() - start
    return seconds


def _print_table(runs: dict[str, dict[str, float]]) -> None:
    print("| | " + " | ".join(ARCHS) + " |\n|---|" + "---|" * len(ARCHS))
    for figure in next(iter(runs.values())):
        cells = []
        for arch in ARCHS:
            values = [run[figure] for name, run in runs.items() if name.startswith(f"{arch}-")]
            cells.append(f"{statistics.mean(values):.4g} ({min(values):.4g}-{max(values):.4g})")
        print(f"| {figure} | " + " | ".join(cells) + " |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hook", default="resid_post.0")
    parser.add_argument("--docs", type=int, default=6000)
    parser.add_argument("--tokens", type=int, default=1_500_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--latents", type=int, default=2048)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    return args


if __name__ == "__main__":
    main()
