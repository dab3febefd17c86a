"""SAELens as the training benchmarks drive it; needs an environment that has sae-lens."""

import math
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import torch
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import (
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from sizes import Size, widths
from torch import Tensor

VERSIONS = {"sae-lens": version("sae-lens"), "torch": torch.__version__}

_CLASSES = {
    "topk": (TopKTrainingSAE, TopKTrainingSAEConfig),
    "batch_topk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
    "matryoshka": (MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig),
}
_LR_END = 3e-5  # has to be given; its constant schedule, the default, does not look at it


def stepper(arch: str, size: Size, variant: str, sample: Tensor) -> Callable[[Tensor], None]:
    """SAETrainer.step as its fit() calls it.

    The variant "sparse" holds latents as COO tensors, "autocast" computes in bfloat16.
    """
    device = sample.device.type
    sae = build(arch, size, sparse=variant == "sparse", device=device)
    config = SAETrainerConfig(
        10**9, size.n, lr_end=_LR_END, device=device, autocast=variant == "autocast"
    )
    trainer = SAETrainer(config, sae, data_provider=iter(()))

    def run(x: Tensor) -> None:
        trainer.maybe_reset_sparsity()
        trainer.step(x)
        trainer.n_training_steps += 1

    return run


def train(job: Mapping[str, Any]) -> dict[str, Tensor]:
    """Train by SAETrainer.fit on rows in order; the weights, which read raw activations.

    The scale is that of normalize_activations="expected_average_only_in", taken from the first 100
    batches. It is folded here and not by fit(), whose folding leaves the threshold as it was.
    """
    torch.manual_seed(job["seed"])
    size, rows = Size(*job["size"]), np.load(job["rows"], mmap_mode="r")
    first = torch.cat(list(islice(_batches(rows, size.n), 100)))
    scale = math.sqrt(size.d_in) / float(first.norm(dim=1).mean())
    sae, asked = build(job["arch"], size), job["schedule"]
    settings: dict[str, Any] = {}
    if asked is not None:
        settings["lr"] = asked["lr"]
        settings["lr_warm_up_steps"] = asked["warmup_steps"]
        settings["lr_decay_steps"] = asked["decay_steps"]
        settings["dead_feature_window"] = asked["dead_steps"]
        sae.b_dec.data = first.mean(0) * scale
    config = SAETrainerConfig(job["n_steps"] * size.n, size.n, lr_end=_LR_END, **settings)
    scaled = (x * scale for x in _batches(rows, size.n))
    return _in_one_form(SAETrainer(config, sae, data_provider=scaled).fit(), scale)


def build(arch: str, size: Size, *, sparse: bool = False, device: str = "cpu") -> TopKTrainingSAE:
    """An SAE before training."""
    sae_class, config_class = _CLASSES[arch]
    more: dict[str, Any] = {"device": device}
    if arch == "matryoshka":
        more["matryoshka_widths"] = widths(size.n_latents)
    if sparse:  # on a CPU its backward pass knows no rescaling
        more |= {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}
    return sae_class(config_class(d_in=size.d_in, d_sae=size.n_latents, k=size.k, **more))


def _batches(rows: np.ndarray, n: int) -> Iterator[Tensor]:
    for start in range(0, len(rows), n):
        yield torch.from_numpy(rows[start : start + n].astype(np.float32))


@torch.no_grad()
def _in_one_form(sae: TopKTrainingSAE, scale: float) -> dict[str, Tensor]:
    """Decoder rows of norm 1, the scale in the weights, latents in units of the activations."""
    norm = sae.W_dec.norm(dim=1)
    found = {
        "W_enc": sae.W_enc * norm,
        "b_enc": sae.b_enc * norm / scale,
        "W_dec": sae.W_dec / norm.unsqueeze(1),
        "b_dec": sae.b_dec / scale,
    }
    if hasattr(sae, "topk_threshold"):
        found["threshold"] = sae.topk_threshold.float() / scale
    return found
