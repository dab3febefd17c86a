"""What training finds of planted truth: recovery, and absorption with and without prefixes.

    python benchmarks/synthetic_rows.py [--seeds N] [--quick]

Recovery: TopK, BatchTopK and Matryoshka (each with as many latents as there are concepts, and the
true L0 as k) on 192 concepts in 96 dimensions, with frequencies that fall as a power law,
correlated groups, unequal sizes, noise and a mean away from 0.

Absorption: the tree of Bussmann et al. 2025 (arXiv:2503.17547), four orthonormal parents with three
exclusive children each, by the metric `absorption`. A parent is on in a quarter of the rows, and
where k fixes L0 in 2 / 5.6 of them, so that k = 2 is the true L0. Prints one
JSON object.
"""

import argparse
import itertools
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import saetools as st
from saetools.evaluate import evaluate
from saetools.sae import SAE
from saetools.testbed.planting import SyntheticConfig
from saetools.testbed.recovery import recovery_report
from saetools.testbed.synthetic import HOOK, SyntheticSource
from saetools.train import train_many

WORLD = SyntheticConfig(
    d_in=96,
    n_concepts=192,
    mean_active=6.0,
    frequency_exponent=0.7,
    correlation=0.3,
    noise=0.02,
    mean_norm=2.0,
    magnitude_spread=0.3,
)
TREE = SyntheticConfig(
    d_in=20, n_concepts=16, n_trees=4, n_children=3, noise=0.0, magnitude_jitter=0.0
)
ABSORPTION: dict[str, tuple[str, dict[str, Any]]] = {
    "l1": ("standard", {"target_l0": None}),
    "l1, prefixes 4 16": ("standard", {"target_l0": None, "widths": (4, 16)}),
    "batch_topk": ("matryoshka", {"k": 2, "widths": (16,)}),
    "batch_topk, prefixes 4 8 16": ("matryoshka", {"k": 2, "widths": (4, 8, 16)}),
    "topk": ("topk", {"k": 2}),
}


def main() -> None:
    """Measure both and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few steps, to try it")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    seeds = range(args.seeds)
    found = {
        "recovery": _recovery(seeds, n_steps=60 if args.quick else 3000),
        "absorption": _absorption(seeds, n_steps=60 if args.quick else 4000),
    }
    print(json.dumps(found, indent=1))


def _recovery(seeds: range, *, n_steps: int) -> dict[str, Any]:
    n = WORLD.n_concepts
    kinds: dict[str, dict[str, Any]] = {
        "topk": {"k": 6},
        "batch_topk": {"k": 6},
        "matryoshka": {"k": 6, "widths": (n // 8, n // 4, n // 2, n)},
    }
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in kinds}
    for seed in seeds:
        source = SyntheticSource(WORLD, n_tokens=10_000_000, held_out_fraction=0.01, seed=seed)
        saes = {
            name: st.build_sae(name, d_in=WORLD.d_in, n_latents=n, seed=seed, **fields)
            for name, fields in kinds.items()
        }
        config = st.TrainConfig(n_tokens=n_steps * 1024, batch_tokens=1024, lr=3e-3, seed=seed)
        for name, sae in train_many(saes, source, config).items():
            report = recovery_report(sae, source, n_tokens=50_000)
            rows[name].append(
                {
                    "mcc": report.whole.mcc,
                    "recovered_fraction": report.whole.recovered_fraction,
                    "precision": report.whole.precision,
                    "recall": report.whole.recall,
                    "f1": report.whole.f1,
                    "f1 by band, rare to frequent": [band.f1 for band in report.bands],
                }
            )
    return {name: _spread(found) for name, found in rows.items()}


def _absorption(seeds: range, *, n_steps: int) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ABSORPTION}
    for seed, fixed_k in itertools.product(seeds, (False, True)):
        tree = replace(TREE, tree_chance=2 / 5.6) if fixed_k else TREE
        source = SyntheticSource(tree, n_tokens=60_000, held_out_fraction=0.3, seed=seed)
        with tempfile.TemporaryDirectory() as folder, source.write(Path(folder) / "a.h5") as store:
            saes: dict[str, SAE] = {
                name: st.build_sae(
                    kind, d_in=20, n_latents=16, seed=seed, meta={"hook_name": HOOK}, **fields
                )
                for name, (kind, fields) in ABSORPTION.items()
                if ("k" in fields) == fixed_k
            }
            config = st.TrainConfig(
                n_tokens=n_steps * 512, batch_tokens=512, lr=3e-3, normalize="none", seed=seed
            )
            labels = source.labels()
            for name, sae in train_many(saes, store, config).items():
                report = evaluate(
                    sae,
                    store,
                    metrics=["absorption", "reconstruction", "sparsity"],
                    concepts=labels,
                )
                wanted = ("hole_rate", "split_latents", "absorption_full", "absorption_fraction")
                rows[name].append({k: report.values.get(k) for k in (*wanted, "fvu", "l0")})
    return {name: _spread(found) for name, found in rows.items()}


def _spread(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds, and every seed's value."""
    found: dict[str, Any] = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, list):
            found[name] = [statistics.mean(column) for column in zip(*values, strict=True)]
        elif all(value is not None for value in values):
            found[name] = {"mean": statistics.mean(values), "seeds": values}
        else:
            found[name] = {"seeds": values}
    return found


if __name__ == "__main__":
    main()
