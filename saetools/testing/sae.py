"""The promises that every SAE architecture keeps, as one call: `check_sae("mine")`.

Raises AssertionError with a sentence about the first promise that is broken. What an architecture
can do it says itself (`unit_norm_decoder`, `calibrated_l0`, `target_hook_name`, `d_out`), so the
suite knows none by name. Saved files go to the folder that is given and nowhere else.
"""

from pathlib import Path
from typing import Any

import torch

from saetools.sae import ARCHS, SAE, Objective, build_sae
from saetools.testing.folding import check_folding
from saetools.testing.gradients import check_gradients
from saetools.types import SparseLatents

__all__ = ["check_sae"]


def check_sae(
    type: str, *, folder: Path, d_in: int = 24, n_latents: int = 64, **fields: Any
) -> None:
    """Check an architecture by name.

    Args:
        type: name in the registry.
        folder: empty folder for files.
        d_in: width of what it reads.
        n_latents: size of its dictionary.
        fields: other fields of its config; `k` is 6 where it has one and `target_l0` 6.

    Raises:
        AssertionError: a promise is broken; the message says which.

    >>> from tempfile import mkdtemp
    >>> check_sae("topk", folder=Path(mkdtemp()))
    """
    known = ARCHS.get(type).Config.model_fields
    fields = {name: 6 for name in ("k", "target_l0") if name in known} | fields
    built = build_sae(type, d_in=d_in, n_latents=n_latents, seed=3, **fields)
    sae = _ready(built)
    x = torch.randn(40, d_in, generator=torch.Generator().manual_seed(1))
    y = x
    if sae.target_hook_name is not None or sae.d_out != d_in:
        y = torch.randn(40, sae.d_out, generator=torch.Generator().manual_seed(2))
    _check_start(built, type, d_in=d_in, n_latents=n_latents, fields=fields)
    _check_shapes(sae, x)
    _check_purity(sae, x, y)
    _check_alone(sae, x)
    check_gradients(sae, x, y)
    _check_readings(sae, x)
    check_folding(sae, x)
    sae.save(folder / "sae")
    _check_same(sae, SAE.load(folder / "sae"), x)


def _ready(sae: SAE) -> SAE:
    # An untrained SAE with a threshold cannot encode; any positive one will do here.
    return sae if sae.calibrated_l0 is None else sae.with_threshold(0.5)


def _check_start(sae: SAE, type: str, *, d_in: int, n_latents: int, fields: dict[str, Any]) -> None:
    assert sae.config.type == type, f"config.type is the name in the registry ('{type}')"
    again = build_sae(type, d_in=d_in, n_latents=n_latents, seed=3, **fields)
    other = build_sae(type, d_in=d_in, n_latents=n_latents, seed=4, **fields)
    for name, tensor in sae.state_dict().items():
        held = again.state_dict()[name]
        assert torch.equal(held.nan_to_num(), tensor.nan_to_num()), f"a seed decides {name}"
    assert not torch.equal(sae.W_dec, other.W_dec), "another seed gives other weights"
    if sae.unit_norm_decoder:
        norms = sae.W_dec.norm(dim=1)
        assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5), (
            "decoder rows have unit norm, or unit_norm_decoder is False"
        )


def _check_shapes(sae: SAE, x: torch.Tensor) -> None:
    for n in (0, 1, len(x)):
        latents = sae.encode(x[:n])
        assert isinstance(latents, SparseLatents), "encode returns SparseLatents"
        assert len(latents) == n, f"encode keeps the number of tokens ({n})"
        assert latents.n_latents == sae.config.n_latents, "encode says the size of the dictionary"
        assert bool((latents.values >= 0).all()), "latents are not negative"
        dense = latents.dense()
        assert dense.shape == (n, sae.config.n_latents), "dense() is (n, n_latents)"
        x_hat = sae.decode(latents)
        assert x_hat.shape == (n, sae.d_out), "decode gives (n, d_out)"
        expected = dense @ sae.W_dec + sae.b_dec
        assert torch.allclose(x_hat, expected, atol=1e-5), "decode equals latents @ W_dec + b_dec"
    assert sae(x).shape == (len(x), sae.d_out), "a call gives (n, d_out)"


def _check_alone(sae: SAE, x: torch.Tensor) -> None:
    alone = sae.encode(x[3:4]).dense()
    together = sae.encode(x).dense()[3:4]
    assert torch.allclose(alone, together, atol=1e-5), "encode of a token ignores its neighbours"


def _check_purity(sae: SAE, x: torch.Tensor, y: torch.Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    objective = Objective(float(sae.d_out))
    first, second = sae(x), sae(x)
    one, two = (sae.loss(x, objective, target=y).total for _ in range(2))
    sae.gradients(x, objective, target=y)
    for name, tensor in sae.state_dict().items():
        assert torch.equal(before[name], tensor), f"encode, decode and loss leave {name} alone"
    assert torch.equal(first, second), "two calls give the same bits"
    assert torch.equal(one, two), "two losses of one batch are the same bits"


def _check_readings(sae: SAE, x: torch.Tensor) -> None:
    """Narrower and sparser readings: what is selected is selected before anything is cut off."""
    assert sae.widths[-1] == sae.config.n_latents, "the last width is n_latents"
    latents = sae.encode(x)
    whole = latents.dense()
    for width in sae.widths:
        dense = latents.prefix(width).dense()
        assert bool((dense[:, width:] == 0).all()), f"prefix({width}) switches the rest off"
        assert torch.equal(dense[:, :width], whole[:, :width]), f"prefix({width}) keeps its own"
    for k in (1, 3):
        kept = latents.top(k).dense()
        assert int((kept != 0).sum(1).max()) <= k, f"top({k}) leaves at most {k} latents"
        largest = whole.topk(k, dim=1).values.sum(1)
        assert torch.allclose(kept.sum(1), largest), f"top({k}) leaves the largest"


def _check_same(sae: SAE, loaded: SAE, x: torch.Tensor) -> None:
    assert loaded.config == sae.config, "the config survives a round trip"
    assert torch.equal(loaded(x), sae(x)), "a reloaded SAE gives the same bits"
    for name, tensor in sae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), f"{name} survives a round trip"
