"""SAEs over normalised tokens: what they compute, in which units, and what they refuse."""

from pathlib import Path

import pytest
import torch

import saetools as st
from saetools.errors import ConfigError, FormatError
from saetools.sae import INPUT_NORMS, SAE, Affine, Normed, Objective
from saetools.types import SparseLatents

NORMS = INPUT_NORMS.names()


def _normed(norm: str) -> Normed:
    sae = st.build_sae("topk", d_in=24, n_latents=64, k=5, seed=3)
    with torch.no_grad():
        sae.b_dec.normal_(generator=torch.Generator().manual_seed(2))
        sae.b_enc.normal_(generator=torch.Generator().manual_seed(4)).mul_(0.1)
    found = INPUT_NORMS.get(norm)()(sae.requires_grad_(False))
    assert isinstance(found, Normed)
    return found


@pytest.fixture
def x() -> torch.Tensor:
    """Tokens with a mean and with norms of every size."""
    random = torch.Generator().manual_seed(1)
    sizes = torch.logspace(-1, 2, 40).unsqueeze(1)
    return torch.randn(40, 24, generator=random) * sizes + sizes


def test_layer_norm_is_the_one_of_torch_but_for_the_count(x: torch.Tensor) -> None:
    sae = _normed("layer_norm")
    mean, spread, divisor = sae.norm.measure(x)
    ours = (x - mean) / divisor
    theirs = torch.nn.functional.layer_norm(x, (24,), eps=0.0)
    assert torch.allclose(ours * (24 / 23) ** 0.5, theirs, atol=1e-3)
    assert torch.allclose(spread, x.std(1, keepdim=True))


@pytest.mark.parametrize("norm", NORMS)
def test_it_reads_and_gives_back_raw_tokens(norm: str, x: torch.Tensor) -> None:
    sae = _normed(norm)
    mean, spread, divisor = sae.norm.measure(x)
    inside = sae.inner((x - mean) / divisor)
    assert torch.allclose(sae(x), inside * spread + mean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_larger_tokens_have_larger_latents_and_the_same_ones(norm: str, x: torch.Tensor) -> None:
    sae = _normed(norm)
    once, thrice = sae.encode(x).dense(), sae.encode(3 * x).dense()
    assert torch.equal(once != 0, thrice != 0)
    assert torch.allclose(thrice, 3 * once, rtol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_a_latent_is_worth_its_row_of_the_decoder_in_the_units_of_x(
    norm: str, x: torch.Tensor
) -> None:
    sae = _normed(norm)
    latents = sae.encode(x)
    values = latents.values.clone()
    values[:, 0] = 0
    without = SparseLatents(values, latents.indices, latents.n_latents)
    gone = sae(x) - sae.reconstruct(without, x)
    assert torch.allclose(
        gone, latents.values[:, :1] * sae.W_dec[latents.indices[:, 0]], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_reloaded_one_gives_the_same_bits(norm: str, x: torch.Tensor, tmp_path: Path) -> None:
    sae = _normed(norm)
    sae.save(tmp_path / "sae")
    loaded = SAE.load(tmp_path / "sae")
    assert isinstance(loaded, Normed)
    assert loaded.norm == sae.norm
    assert torch.equal(loaded(x), sae(x))


@pytest.mark.parametrize("norm", NORMS)
def test_a_scale_folds_and_a_shift_is_refused(norm: str, x: torch.Tensor) -> None:
    sae = _normed(norm)
    assert torch.allclose(sae.folded(Affine(4.0))(x), sae(4 * x) / 4, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="not a shift or a matrix"):
        sae.folded(Affine(1.0, torch.ones(24)))


def test_it_is_not_trained(x: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="not trained"):
        _normed("layer_norm").loss(x, Objective(1.0))


def test_a_tensor_that_is_moved_or_changed_is_the_one_that_computes(x: torch.Tensor) -> None:
    sae = _normed("layer_norm")
    before = sae(x)
    with torch.no_grad():
        sae.b_dec.add_(1)
    assert not torch.allclose(sae(x), before)
    assert sae.double()(x.double()).dtype == torch.float64


def test_an_unknown_normalisation_is_refused_by_name(tmp_path: Path) -> None:
    _normed("layer_norm").save(tmp_path / "sae")
    path = tmp_path / "sae" / "config.json"
    path.write_text(path.read_text().replace("layer_norm", "batch_norm"))
    with pytest.raises(FormatError, match="known: layer_norm, unit_norm"):
        SAE.load(tmp_path / "sae")
