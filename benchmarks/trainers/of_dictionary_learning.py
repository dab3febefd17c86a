"""dictionary_learning as the training benchmarks drive it; needs an environment that has it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.top_k import TopKTrainer
from dictionary_learning.training import trainSAE
from sizes import Size, block_fractions
from torch import Tensor

VERSIONS = {"dictionary-learning": version("dictionary-learning"), "torch": torch.__version__}

_TRAINERS = {
    "topk": TopKTrainer,
    "batch_topk": BatchTopKTrainer,
    "matryoshka": MatryoshkaBatchTopKTrainer,
}
_LATER = 2000  # a step from which on its trainers keep their thresholds up to date


def stepper(arch: str, size: Size, variant: str, sample: Tensor) -> Callable[[Tensor], None]:
    """The trainer's update, as in the long run; "autocast" as trainSAE(autocast_dtype=bfloat16)."""
    kind, dtype = sample.device.type, torch.bfloat16 if variant == "autocast" else torch.float32
    config = _config(arch, size, n_steps=10**6, seed=0, device=kind)
    trainer = config.pop("trainer")(**config)
    trainer.ae.b_dec.data = sample.mean(0)

    def run(x: Tensor) -> None:
        with torch.autocast(kind, dtype, enabled=variant == "autocast"):
            trainer.update(_LATER, x.to(dtype))

    return run


def train(job: Mapping[str, Any]) -> dict[str, Tensor]:
    """Train by trainSAE with normalize_activations on rows in order; weights for raw ones."""
    size = Size(*job["size"])
    config = _config(job["arch"], size, n_steps=job["n_steps"], seed=job["seed"])
    asked = job["schedule"]
    if asked is not None:
        config["lr"], config["warmup_steps"] = asked["lr"], asked["warmup_steps"]
        config["decay_start"] = job["n_steps"] - asked["decay_steps"]
    with tempfile.TemporaryDirectory() as folder:
        trainSAE(
            _Rows(job["rows"], size.n),
            [config],
            steps=job["n_steps"],
            save_dir=folder,
            normalize_activations=True,
            device="cpu",
        )
        return _in_one_form(torch.load(Path(folder) / "trainer_0" / "ae.pt"))


class _Rows:
    """Batches in order, from the start each time it is iterated."""

    def __init__(self, path: str, n: int) -> None:
        self._rows, self._n = np.load(path, mmap_mode="r"), n

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self._rows), self._n):
            # A copy: trainSAE divides a batch in place.
            yield torch.from_numpy(self._rows[start : start + self._n].astype(np.float32))


def _config(
    arch: str, size: Size, *, n_steps: int, seed: int, device: str = "cpu"
) -> dict[str, Any]:
    more = {"group_fractions": block_fractions()} if arch == "matryoshka" else {}
    return {
        "trainer": _TRAINERS[arch],
        "steps": n_steps,
        "activation_dim": size.d_in,
        "dict_size": size.n_latents,
        "k": size.k,
        "layer": 0,
        "lm_name": "none",
        "seed": seed,
        "device": device,
        **more,
    }


def _in_one_form(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if "W_enc" in held:
        found = {name: held[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    else:
        found = {
            "W_enc": held["encoder.weight"].T,
            "b_enc": held["encoder.bias"],
            "W_dec": held["decoder.weight"].T,
            "b_dec": held["b_dec"],
        }
    return {**found, "threshold": held["threshold"]}
