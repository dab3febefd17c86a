"""The promises that every SAE architecture keeps, as one call: `check_sae("mine")`.

Raises AssertionError with a sentence about the first promise that is broken. Saved files go to the
folder that is given and nowhere else.
"""

from pathlib import Path

import torch

from saetools.sae import SAE, Affine, Objective, build_sae
from saetools.sae.archs.batch_topk import BatchTopK
from saetools.types import SparseLatents

__all__ = ["check_sae"]


def check_sae(type: str, *, folder: Path, d_in: int = 24, n_latents: int = 64, k: int = 6) -> None:
    """Check an architecture by name.

    Args:
        type: name in the registry.
        folder: empty folder for files.
    """
    sae = _ready(build_sae(type, d_in=d_in, n_latents=n_latents, k=k, seed=3))
    x = torch.randn(40, d_in, generator=torch.Generator().manual_seed(1))
    _check_shapes(sae, x)
    _check_purity(sae, x)
    _check_gradients(sae, x)
    _check_prefixes(sae, x)
    _check_folding(sae, x)
    sae.save(folder / "sae")
    _check_same(sae, SAE.load(folder / "sae"), x)


def _ready(sae: SAE) -> SAE:
    # An untrained SAE with a threshold cannot encode; any positive one will do here.
    if isinstance(sae, BatchTopK):
        sae.threshold.fill_(0.5)
    return sae


def _check_shapes(sae: SAE, x: torch.Tensor) -> None:
    for n in (0, 1, len(x)):
        latents = sae.encode(x[:n])
        assert isinstance(latents, SparseLatents), "encode returns SparseLatents"
        assert len(latents) == n, f"encode keeps the number of tokens ({n})"
        assert bool((latents.values >= 0).all()), "latents are not negative"
        dense = latents.dense()
        assert dense.shape == (n, sae.config.n_latents), "dense() is (n, n_latents)"
        x_hat = sae.decode(latents)
        assert x_hat.shape == (n, sae.config.d_in), "decode gives (n, d_in)"
        expected = dense @ sae.W_dec + sae.b_dec
        assert torch.allclose(x_hat, expected, atol=1e-5), "decode equals latents @ W_dec + b_dec"
    norms = sae.W_dec.norm(dim=1)
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5), "decoder rows have unit norm"
    alone = sae.encode(x[3:4]).dense()
    together = sae.encode(x).dense()[3:4]
    assert torch.allclose(alone, together, atol=1e-5), "encode of a token ignores its neighbours"


def _check_purity(sae: SAE, x: torch.Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    first, second = sae(x), sae(x)
    sae.loss(x, Objective(float(sae.config.d_in)))
    assert torch.equal(first, second), "two calls give the same bits"
    for name, tensor in sae.state_dict().items():
        assert torch.equal(before[name], tensor), f"encode, decode and loss leave {name} alone"


def _check_gradients(sae: SAE, x: torch.Tensor) -> None:
    dead = torch.zeros(sae.config.n_latents, dtype=torch.bool)
    dead[::4] = True
    sae.zero_grad()
    sae.loss(x, Objective(float(sae.config.d_in), dead=dead)).total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in sae.named_parameters():
        grad = parameter.grad
        assert grad is not None, f"{name} gets a gradient"
        assert bool(grad.abs().sum() > 0), f"the gradient of {name} is not zero"
    sae.zero_grad()


def _check_prefixes(sae: SAE, x: torch.Tensor) -> None:
    assert sae.widths[-1] == sae.config.n_latents, "the last width is n_latents"
    latents = sae.encode(x)
    for width in sae.widths:
        dense = latents.prefix(width).dense()
        assert bool((dense[:, width:] == 0).all()), f"prefix({width}) switches the rest off"


def _check_folding(sae: SAE, x: torch.Tensor) -> None:
    shift = torch.linspace(-1, 1, x.shape[1])
    for map in (Affine(3.0), Affine(0.5, shift), Affine(2.0, shift, *_stretch(x.shape[1]))):
        expected = map.undo(sae(map(x)))
        assert torch.allclose(sae.folded(map)(x), expected, atol=1e-4), "folding keeps x_hat"
        back = sae.folded(map).folded(map.inverse())
        assert torch.allclose(back(x), sae(x), atol=1e-4), "folding can be undone"


def _stretch(d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix as whitening has it, and its inverse."""
    basis = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(7)))[0]
    sizes = torch.linspace(0.5, 2, d)
    return basis * sizes @ basis.T, basis / sizes @ basis.T


def _check_same(sae: SAE, loaded: SAE, x: torch.Tensor) -> None:
    assert loaded.config == sae.config, "the config survives a round trip"
    assert torch.equal(loaded(x), sae(x)), "a reloaded SAE gives the same bits"
