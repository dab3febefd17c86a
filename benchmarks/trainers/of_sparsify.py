"""sparsify as the training benchmarks drive it; needs an environment that has eai-sparsify."""

from collections.abc import Callable
from importlib.metadata import version

import torch
from schedulefree import ScheduleFreeWrapper
from sizes import Size
from sparsify import SparseCoder, SparseCoderConfig
from sparsify.sign_sgd import SignSGD
from torch import Tensor

VERSIONS = {"eai-sparsify": version("eai-sparsify"), "torch": torch.__version__}


def stepper(arch: str, size: Size, variant: str, sample: Tensor) -> Callable[[Tensor], None]:
    """What its Trainer does with a batch of activations; variant is the optimiser.

    On a GPU its forward pass is under bfloat16 autocast, and its Trainer lets float32 products use
    TF32, both without being asked.
    """
    assert arch == "topk", "sparsify trains TopK only"
    device = sample.device
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    config = SparseCoderConfig(num_latents=size.n_latents, k=size.k)
    sae = SparseCoder(size.d_in, config, device)
    sae.b_dec.data = sample.mean(0)
    since_fired = torch.zeros(size.n_latents, dtype=torch.long, device=device)
    if variant == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(sae.parameters(), lr=2e-4)
    else:
        optimizer = ScheduleFreeWrapper(SignSGD(sae.parameters(), lr=5e-3), momentum=0.95)
        optimizer.train()

    def run(x: Tensor) -> None:
        sae.set_decoder_norm_to_unit_norm()
        variance = (x - x.mean(0)).pow(2).sum()
        out = sae(x=x, y=x, dead_mask=None, total_variance=variance)
        fired = torch.zeros(size.n_latents, dtype=torch.bool, device=device)
        fired[out.latent_indices.flatten()] = True
        out.fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        since_fired.add_(len(x))[fired] = 0

    return run
