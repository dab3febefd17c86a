"""The promise that a map of the data can be folded into an SAE's weights, and taken out again."""

import torch

from saetools.sae import SAE, Affine

__all__ = ["check_folding"]


def check_folding(sae: SAE, x: torch.Tensor) -> None:
    """Check scale, shift and matrix; for an SAE that writes another activation, two maps."""
    for inputs, outputs in zip(_maps(x.shape[1]), reversed(_maps(sae.d_out)), strict=True):
        if sae.target_hook_name is None and sae.d_out == x.shape[1]:
            _check(sae, x, inputs, None)
        else:
            _check(sae, x, inputs, outputs)


def _check(sae: SAE, x: torch.Tensor, inputs: Affine, outputs: Affine | None) -> None:
    out = inputs if outputs is None else outputs
    folded = sae.folded(inputs, outputs)
    expected = out.undo(sae(inputs(x)))
    assert torch.allclose(folded(x), expected, atol=1e-4), "folding keeps x_hat"
    latents, scaled = sae.encode(inputs(x)).dense(), folded.encode(x).dense()
    assert torch.allclose(scaled * out.scale, latents, atol=1e-4), (
        "folding divides latents by the outputs' scale"
    )
    back = folded.folded(inputs.inverse(), None if outputs is None else outputs.inverse())
    assert torch.allclose(back(x), sae(x), atol=1e-4), "folding can be undone"


def _maps(d: int) -> list[Affine]:
    shift = torch.linspace(-1, 1, d)
    return [Affine(3.0), Affine(0.5, shift), Affine(2.0, shift, *_stretch(d))]


def _stretch(d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix as whitening has it, and its inverse."""
    basis = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(7)))[0]
    sizes = torch.linspace(0.5, 2, d)
    return basis * sizes @ basis.T, basis / sizes @ basis.T
