"""Figures of one SAE on the same rows by our code and by other libraries' own code.

    python benchmarks/metric_parity.py --model DIR --texts FILE [--peers-python PYTHON] [--layer N]
        [--quick]

Trains a small TopK SAE on a language model, and has our metrics, SAELens' evaluation and
dictionary_learning's measure it on held-out documents, all cut to one length, so that no library
meets padding. Prints one JSON object. What explains the differences is in docs/known-answers.md.
"""

import argparse
import gzip
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import saetools as st
from saetools import progress
from saetools.corpus import Corpus, Document
from saetools.evaluate import EvaluationReport, MetricContext, evaluate
from saetools.evaluate.metrics.loss_recovered import LossRecovered
from saetools.models.base import LanguageModel
from saetools.sae import SAE
from saetools.store import ActivationStore

_LENGTH = 64  # tokens of a document, without BOS
_PEER = Path(__file__).with_name("peer_metrics.py")


def main() -> None:
    """Train, measure, and print."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    with (
        tempfile.TemporaryDirectory() as name,
        progress.task("parity", total=3, unit="steps") as task,
    ):
        folder = Path(name)
        model = st.load_model(args.model)
        assert isinstance(model, LanguageModel)
        documents = _documents(model, args.texts, 300 if args.quick else 3000)
        corpus = Corpus(
            tuple(Document("", token_ids=ids) for ids in documents),
            "parity",
            tokenizer=model.tokenizer_fingerprint,
        )
        hook = model.resolve(f"resid_post.{args.layer}")
        with st.harvest(
            model, corpus, hook_name=hook, out=folder / "acts.h5", dtype="float32"
        ) as store:
            task.advance()
            sae = _trained(store, n_steps=100 if args.quick else 1500)
            task.advance()
            report = evaluate(
                sae,
                store,
                model=model,
                corpus=corpus,
                metrics=["reconstruction", "sparsity", "loss_recovered"],
            )
            found = {
                "saetools": report.values,
                "saetools, special tokens replaced": _replacing(sae, store, model, documents),
                "as SAEBench is written": _saebench(sae, store),
                "n_rows": int(store.n_rows("held_out")),
                "n_sequences": int(store.held_out.sum()),
            }
            if args.peers_python:
                found |= _peers(args, sae, store, model, documents, folder)
            task.advance()
    print(json.dumps(found, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a Llama-shaped language model")
    parser.add_argument("--texts", required=True, help="JSON lines with `text`, may be gzipped")
    parser.add_argument("--peers-python", help="Python that has sae-lens and dictionary-learning")
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few documents and steps, to try it")
    return parser.parse_args()


def _documents(model: LanguageModel, path: str, n: int) -> list[tuple[int, ...]]:
    """The first tokens of the first texts that are long enough, without BOS."""
    opened = gzip.open(path, "rt") if path.endswith(".gz") else open(path)  # noqa: SIM115
    found: list[tuple[int, ...]] = []
    with opened as lines:
        for line in lines:
            text = json.loads(line)["text"]
            ids = model.tokenizer(
                text, add_special_tokens=False, truncation=True, max_length=_LENGTH
            )["input_ids"]
            if len(ids) >= _LENGTH:
                found.append(tuple(ids[:_LENGTH]))
            if len(found) == n:
                break
    return found


def _trained(store: ActivationStore, *, n_steps: int) -> SAE:
    sae = st.build_sae("topk", d_in=store.d_in, n_latents=4 * store.d_in, k=16)
    return st.train(sae, store, st.TrainConfig(n_tokens=n_steps * 1024, batch_tokens=1024))


def _replacing(
    sae: SAE, store: ActivationStore, model: LanguageModel, documents: list[tuple[int, ...]]
) -> dict[str, float]:
    ctx = MetricContext(sae, store, store.hook_name, model=model, texts=tuple(documents))
    rows = LossRecovered(special_tokens="replaced").compute(ctx).measurements
    return EvaluationReport(rows).values


@torch.no_grad()
def _saebench(sae: SAE, store: ActivationStore) -> dict[str, float]:
    """Its two formulas of explained variance, on all rows as one batch: mean squares averaged over
    dimensions and squared, and the mean over tokens. Not run: transcribed, to show what they do."""
    x = torch.cat([batch.x for batch in store.stream(split="held_out")]).double()
    error = (x - sae(x.float()).double()).square().sum(1)
    squares = x.square()
    below = squares.sum(1).mean() - squares.mean(0).mean().square()
    legacy = (1 - error / (x - x.mean(0)).square().sum(1)).mean()
    return {
        "explained_variance": float(1 - error.mean() / below),
        "explained_variance_legacy": float(legacy),
    }


def _peers(
    args: argparse.Namespace,
    sae: SAE,
    store: ActivationStore,
    model: LanguageModel,
    documents: list[tuple[int, ...]],
    folder: Path,
) -> dict[str, Any]:
    x = torch.cat([batch.x for batch in store.stream(split="held_out")])
    held = [documents[i] for i in np.flatnonzero(store.held_out)]
    tokens = model.tokenize(held)
    with torch.no_grad():
        weights = {
            name: getattr(sae, name).numpy() for name in ("W_enc", "b_enc", "W_dec", "b_dec")
        }
        np.savez(folder / "weights.npz", k=sae.config.model_dump()["k"], **weights)
        np.save(folder / "rows.npy", x.numpy())
        np.save(folder / "x_hat.npy", sae(x).numpy())
    (folder / "sequences.json").write_text(json.dumps(tokens.ids.tolist()))
    done = subprocess.run(
        [
            args.peers_python,
            str(_PEER),
            str(Path(args.model).resolve()),
            str(args.layer),
            str(folder),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the other libraries' process ended:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
