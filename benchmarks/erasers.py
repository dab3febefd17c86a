"""Erase one topic from a text encoder by every eraser, and measure what is left and what it cost.

    python -m benchmarks.erasers RUN --topic email --csv erasers.csv

RUN is a run folder of `saetools demo` (MiniLM on Python's own documentation). Half of the documents
fit the erasers, the other half measures; probes are fitted crosswise on the measuring half, with
the eraser at work. A row an eraser, beside its control of random latents where it has one:

    hook_linear, hook_mlp, out_linear, out_mlp   balanced accuracy of fresh probes on mean
        activations at the hook and on the final embedding; 0.5 is chance
    topic_ap    average precision of a document of the topic asking for others of it, by cosine of
        embeddings; `topic_chance` is what random order gives
    other_ap    the same, mean over the other topics: quality that should stay
    other_probe balanced accuracy of linear probes of the three largest other topics, their mean
    other_cos   mean cosine of other documents' embeddings to what they were; 1 is untouched
    touched     share of other documents whose embedding changed at all
"""

import argparse
import csv
import math
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from saetools.cli.find import open_run
from saetools.corpus import held_out
from saetools.erase import Eraser, LabelledRows, collect_rows, erased, random_control, scrub
from saetools.erase.fit import fit_labelled
from saetools.errors import SaetoolsError
from saetools.evaluate.erased_texts import text_vectors
from saetools.evaluate.erasure import crossed_probe
from saetools.models.base import TextEncoder

RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "leace": ("leace", {"level": "text"}),
    "leace (rows)": ("leace", {}),
    "mean_projection": ("mean_projection", {"level": "text"}),
    "rlace": ("rlace", {"level": "text"}),
    "rlace (rank 8)": ("rlace", {"level": "text", "rank": 8}),
    "safree": ("safree", {}),
    "safree (alpha calibrated)": ("safree", {"alpha": None}),
    "zero": ("zero", {"n_latents": 32}),
    "clamp": ("clamp", {"n_latents": 32}),
    "clamp (guarded)": (
        "clamp",
        {"n_latents": 32, "variant": "guarded", "score": "importance", "max_retain_rate": 1.0},
    ),
    "range_suppress": ("range_suppress", {"n_latents": 32}),
    "app": ("app", {"n_latents": 32}),
    "sauce": ("sauce", {"n_latents": 32}),
    "itd": ("itd", {"n_latents": 32}),
    "itd (value -1)": ("itd", {"n_latents": 32, "value": -1.0}),
    "steerer": ("steerer", {"n_latents": 32}),
    "steerer (position)": ("steerer", {"variant": "position", "strength": -0.5}),
    "steerer (no SAE)": ("steerer", {"variant": "activation", "strength": -0.5}),
}
_LEAST_DOCS = 8  # of a topic in the measuring half
_N_PROBED = 3


class Data(NamedTuple):
    """Documents that measure, with their topics."""

    texts: list[str]
    topics: np.ndarray
    topic: str
    others: list[str]


def main() -> None:
    """Fit, measure, print."""
    torch.set_num_threads(1)
    args = _arguments()
    run = open_run(args.run)
    model, sae = run.model, run.sae()
    hook = model.resolve(run.config.harvest.hook_names[0])
    assert isinstance(model, TextEncoder), "the benchmark erases from a text encoder"
    fit, data = _split(run.corpus, args.topic, args.most, run.config.seed)
    ctx_len = run.config.harvest.ctx_len
    rows = collect_rows(
        model, forget=fit[0], retain=fit[1], hook_name=hook, tokens="all", ctx_len=ctx_len
    )
    n_own = int((data.topics == data.topic).sum())
    print(f"fit: {len(fit[0])} + {len(fit[1])} documents, {len(rows.x):,} tokens")
    print(f"measured on {n_own} of {data.topic} + {len(data.texts) - n_own}", flush=True)
    bench = Bench(model, data, hook, ctx_len)
    table = [bench.row("none", nullcontext())]
    _print(table[-1])
    wanted = args.only.split(",") if args.only else list(RECIPES)
    for label in wanted:
        for row in _measure(bench, label, rows, sae):
            table.append(row)
            _print(row)
    if not args.only:
        started = time.perf_counter()
        done = scrub(
            model, forget=fit[0], retain=fit[1], tokens="all", ctx_len=ctx_len, level="text"
        )
        seconds, label = time.perf_counter() - started, "scrub (leace, all layers)"
        table.append(bench.row(label, done.applied(model), seconds=seconds, change=math.nan))
        _print(table[-1])
    writer = csv.DictWriter(sys.stdout, list(table[0]))
    for stream in [sys.stdout, *([args.csv.open("w", newline="")] if args.csv else [])]:
        writer = csv.DictWriter(stream, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
        stream.flush()


def _measure(bench: "Bench", label: str, rows: LabelledRows, sae: Any) -> list[dict[str, Any]]:
    """Rows of one recipe: the eraser, and its control if it has one."""
    name, config = RECIPES[label]
    started = time.perf_counter()
    try:
        eraser = fit_labelled(name, rows, sae=sae, **config)
    except SaetoolsError as error:
        print(f"{label}: {error}")
        return []
    seconds = time.perf_counter() - started
    found = [bench.erased(label, eraser, seconds)]
    try:
        control = random_control(eraser, rows, seed=0)
    except SaetoolsError:
        return found
    return [*found, bench.erased(f"{label}: random latents", control, seconds)]


class Bench:
    """Measures the model under one eraser after the other."""

    def __init__(self, model: TextEncoder, data: Data, hook: str, ctx_len: int | None) -> None:
        self.model, self.data, self.hook, self.ctx_len = model, data, hook, ctx_len
        self.clean = self._vectors()["embedding"]

    def _vectors(self) -> dict[str, np.ndarray]:
        return text_vectors(
            self.model, self.data.texts, hook_name=self.hook, tokens="all", ctx_len=self.ctx_len
        )

    def erased(self, label: str, eraser: Eraser, seconds: float) -> dict[str, Any]:
        """Measure with an eraser at work."""
        context = erased(self.model, eraser, tokens="all")
        return self.row(label, context, seconds=seconds, change=eraser.report.retain_change)

    def row(
        self,
        label: str,
        context: AbstractContextManager[Any],
        *,
        seconds: float = 0.0,
        change: float = 0.0,
    ) -> dict[str, Any]:
        """All figures of one condition."""
        with context:
            found = self._vectors()
        own = self.data.topics == self.data.topic
        vectors = found["embedding"]
        probes = {
            f"{short}_{kind}": crossed_probe(found[place], own, kind=kind)
            for short, place in (("hook", self.hook), ("out", "embedding"))
            for kind in ("linear", "mlp")
        }
        rest = [crossed_probe(vectors, self.data.topics == t) for t in self.data.others[:_N_PROBED]]
        cosine = (vectors * self.clean).sum(1) / (
            np.linalg.norm(vectors, axis=1) * np.linalg.norm(self.clean, axis=1)
        )
        touched = (vectors != self.clean).any(1)
        return {
            "eraser": label,
            **{key: str(value) for key, value in probes.items()},
            "topic_ap": _round(average_precision(vectors, own)),
            "topic_chance": _round((own.sum() - 1) / (len(own) - 1)),
            "other_ap": _round(np.mean([average_precision(vectors, self.data.topics == t)
                                        for t in self.data.others])),
            "other_probe": _round(np.mean([reading.accuracy for reading in rest])),
            "other_cos": _round(cosine[~own].mean()),
            "touched": _round(touched[~own].mean()),
            "retain_change": _round(change),
            "seconds": round(seconds, 1),
        }  # fmt: skip


def average_precision(vectors: np.ndarray, own: np.ndarray) -> float:
    """Mean over documents of the topic of the average precision with which they find the others."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for asking in np.flatnonzero(own):
        others = np.delete(np.arange(len(own)), asking)
        order = others[np.argsort(-(unit[others] @ unit[asking]), kind="stable")]
        hits = np.flatnonzero(own[order]) + 1
        found.append(float((np.arange(1, len(hits) + 1) / hits).mean()))
    return float(np.mean(found))


def _split(
    corpus: Any, topic: str, most: int, seed: int
) -> tuple[tuple[list[str], list[str]], Data]:
    """Half of the documents to fit on, half to measure on; other topics at most `most` of each."""
    documents = [d for d in corpus if d.label is not None]
    measuring = held_out(len(documents), fraction=0.5, seed=seed)
    sides: list[list[Any]] = [[], []]
    for document, side in zip(documents, measuring, strict=True):
        sides[int(side)].append(document)
    kept = [
        [d for d in side if d.label == topic] + _spread([d for d in side if d.label != topic], most)
        for side in sides
    ]
    seen = {d.text for d in kept[0] if d.label == topic}
    fit = (sorted(seen), sorted({d.text for d in kept[0]} - seen))
    topics = np.array([d.label for d in kept[1]])
    counts = Counter(topics.tolist())
    others = [t for t, n in counts.most_common() if t != topic and n >= _LEAST_DOCS]
    return fit, Data([d.text for d in kept[1]], topics, topic, others)


def _spread(documents: list[Any], most: int) -> list[Any]:
    if len(documents) <= most:
        return documents
    return [documents[i * len(documents) // most] for i in range(most)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", help="run folder with an SAE of a text encoder")
    parser.add_argument("--topic", default="email", help="label of the corpus")
    parser.add_argument("--most", type=int, default=150, help="documents of other topics a half")
    parser.add_argument("--only", default="", help="some of the recipes, by name and comma")
    parser.add_argument("--csv", type=Path, help="file to write the table to")
    return parser.parse_args()


def _round(value: float) -> float:
    return round(float(value), 3)


def _print(row: dict[str, Any]) -> None:
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
