"""saetools as the training benchmarks drive it."""

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from sizes import Size, widths
from torch import Tensor

import saetools as st
from saetools import progress
from saetools.sae import SAE, Affine
from saetools.train.scales import Scales
from saetools.train.state import TrainState, step

VERSIONS = {"torch": torch.__version__}
try:
    VERSIONS["saetools"] = version("saetools")
except PackageNotFoundError:
    VERSIONS["saetools"] = "of this checkout, not installed"


def stepper(arch: str, size: Size, variant: str, sample: Tensor) -> Callable[[Tensor], None]:
    """A full training step; variant is its compute_dtype."""
    config = st.TrainConfig(
        n_tokens=10**9,  # so that no latent is dead within the benchmark
        batch_tokens=size.n,
        lr=2e-4,
        warmup_fraction=0.0,
        compute_dtype=variant,
    )
    scale = Affine((size.d_in / float(sample.square().sum(1).mean())) ** 0.5)
    scales = Scales(scale, scale, float(scale(sample).var(0).sum()))
    state = TrainState.fresh(build(arch, size, seed=0).to(sample.device), config)

    def run(x: Tensor) -> None:
        step(state, x, config, scales)

    return run


def train(job: Mapping[str, Any]) -> dict[str, Tensor]:
    """Train from the store and give the weights, which read raw activations."""
    size = Size(*job["size"])
    settings = {} if job["schedule"] is None else {"lr": job["schedule"]["lr"]}
    config = st.TrainConfig(
        n_tokens=job["n_steps"] * size.n, batch_tokens=size.n, seed=job["seed"], **settings
    )
    with progress.use("silent"), st.ActivationStore.open(job["store"]) as store:
        sae = st.train(build(job["arch"], size, seed=job["seed"]), store, config)
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    tensors = {name: getattr(sae, name).detach() for name in names}
    threshold = dict(sae.named_buffers()).get("threshold")
    return tensors if threshold is None else {**tensors, "threshold": threshold}


def build(arch: str, size: Size, *, seed: int) -> SAE:
    """An SAE before training."""
    more = {"widths": tuple(widths(size.n_latents))} if arch == "matryoshka" else {}
    return st.build_sae(arch, d_in=size.d_in, n_latents=size.n_latents, k=size.k, seed=seed, **more)
