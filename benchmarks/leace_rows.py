"""How many texts LEACE needs before texts that it has not seen are guarded too.

    python -m benchmarks.leace_rows RUN --topic tkinter

RUN is a run folder of `saetools demo`. One half of the documents is for fitting, of which more and
more are used; probes are fitted crosswise on the mean rows of the other half. Only the store is
read. The eraser makes class means equal on the texts of its fit; what a sample of few texts misses
of the difference is what a fresh probe on others finds. Crosswise on the texts of the fit, probes
fall below chance: where the means of the whole are equal, a fold differs from the rest in the
opposite direction. That is an artefact, and why an eraser is measured on other texts.
"""

import argparse

import numpy as np
import torch

from saetools.corpus import held_out
from saetools.erase import LabelledRows, fit_labelled
from saetools.evaluate.erasure import crossed_probe
from saetools.store import ActivationStore

_SIZES = (250, 500, 1000, 2000)


def main() -> None:
    """Print a line a size."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--topic", default="tkinter")
    args = parser.parse_args()
    with ActivationStore.open(f"{args.run}/acts.h5") as store:
        means = torch.stack([store.rows(*span).mean(0) for span in store.doc_spans.tolist()])
        own = np.array([label == args.topic for label in store.labels])
    measuring = held_out(len(own), fraction=0.5, seed=0)
    test, truth = means[measuring], own[measuring]
    print(f"measured on {truth.sum()} of {args.topic} + {(~truth).sum()}")
    for kind in ("linear", "mlp"):
        print(f"before, {kind}: {crossed_probe(test.numpy(), truth, kind=kind)}", flush=True)
    fitting = np.random.default_rng(0).permutation(np.flatnonzero(~measuring))
    for n in _SIZES:
        chosen = fitting[:n]
        rows = LabelledRows(
            means[chosen], torch.from_numpy(own[chosen]).long(), torch.arange(len(chosen))
        )
        eraser = fit_labelled("leace", rows)
        after = eraser(test).numpy()
        read = {kind: crossed_probe(after, truth, kind=kind) for kind in ("linear", "mlp")}
        on_fit = crossed_probe(eraser(rows.x).numpy(), own[chosen])
        print(
            f"fitted on {own[chosen].sum()} + {(~own[chosen]).sum()}: linear {read['linear']}, "
            f"mlp {read['mlp']}; on the texts of the fit, linear {on_fit}; retain rows moved by "
            f"{eraser.report.retain_change:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
