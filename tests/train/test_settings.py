"""What the settings of training promise: scales, clipping, averages, annealing, precision."""

import itertools
from collections.abc import Callable

import pytest
import torch

from saetools.errors import ConfigError
from saetools.sae import SAE, Affine, Objective, build_sae
from saetools.store import ActivationStore
from saetools.train import TrainConfig, train, train_many
from saetools.train.config import AdamConfig, AnnealConfig
from saetools.train.scales import Scales, find_scales
from saetools.train.state import TrainState, step

StoreMaker = Callable[..., ActivationStore]
SHORT = TrainConfig(n_tokens=20_000, batch_tokens=500)
PLAIN = Scales(Affine(), Affine(), 16.0)


def _skewed(n: int = 20_000, d: int = 16) -> torch.Tensor:
    """Sparse sums with a large mean, on axes of very different size."""
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(32, d, generator=g), dim=1)
    on = torch.rand(n, 32, generator=g) < 0.06
    x = (on * (0.5 + torch.rand(n, 32, generator=g))) @ directions
    x = x + 0.01 * torch.randn(n, d, generator=g)
    return x * torch.logspace(-1, 1, d) + 5.0


def _fvu(sae: SAE, x: torch.Tensor) -> float:
    return float((sae(x) - x).square().sum() / (x - x.mean(0)).square().sum())


@pytest.mark.parametrize("normalize", ["scale", "mean", "whiten", "none"])
def test_normalisation_is_folded_so_that_raw_rows_are_reconstructed(
    normalize: str, make_store: StoreMaker
) -> None:
    x = _skewed()
    store = make_store(x)
    config = TrainConfig(n_tokens=200_000, batch_tokens=1000, normalize=normalize)  # type: ignore[arg-type]
    sae = train(build_sae("topk", d_in=16, n_latents=64, k=6), store, config)
    assert _fvu(sae, x) < 0.3
    assert sae.meta["normalize"] == normalize


def test_whitened_rows_have_unit_covariance(make_store: StoreMaker) -> None:
    x = _skewed()
    scales = find_scales(
        make_store(x), "blocks.0.hook_resid_post", SHORT.model_copy(update={"normalize": "whiten"})
    )
    y = scales.inputs(x)
    torch.testing.assert_close(torch.cov(y.T), torch.eye(16), atol=0.05, rtol=0)
    torch.testing.assert_close(scales.inputs.undo(y), x, atol=1e-3, rtol=1e-3)
    assert scales.variance == pytest.approx(16, rel=0.05)


@pytest.mark.parametrize("name", ["topk", "matryoshka"])
def test_a_clipped_step_equals_dense_adam_on_clipped_gradients(name: str) -> None:
    sae = build_sae(name, d_in=16, n_latents=48, k=4).double()
    x = torch.randn(64, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    config = SHORT.model_copy(update={"adam": AdamConfig(max_grad_norm=1e-3), "warmup_fraction": 0})
    state = TrainState.fresh(sae.requires_grad_(True), config)
    twin = build_sae(name, d_in=16, n_latents=48, k=4).double().requires_grad_(True)
    adam = torch.optim.Adam(twin.parameters(), lr=config.lr_at(0, 48), eps=6.25e-10)
    twin.loss(x, Objective(16.0)).total.backward()
    grad = twin.W_dec.grad
    assert grad is not None
    grad -= (grad * twin.W_dec).sum(1, keepdim=True) * twin.W_dec.detach()
    assert float(torch.nn.utils.clip_grad_norm_(twin.parameters(), 1e-3)) > 1e-3
    adam.step()
    twin.W_dec.data /= twin.W_dec.data.norm(dim=1, keepdim=True)
    step(state, x, config, PLAIN)
    for mine, theirs in zip(state.sae.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=1e-5)


def test_the_running_mean_of_weights_is_that_mean_and_its_rows_are_unit(
    tiny_store: ActivationStore,
) -> None:
    config = SHORT.model_copy(update={"adam": AdamConfig(ema_decay=0.8)})
    state = TrainState.fresh(build_sae("topk", d_in=16, n_latents=48, k=4), config)
    seen = []
    for x in tiny_store.batches(500, seed=0):
        step(state, x, config, PLAIN)
        seen.append(state.sae.W_enc_rows.detach().clone())
    weights = torch.tensor([0.8 ** (len(seen) - 1 - i) for i in range(len(seen))])
    mean = (torch.stack(seen) * weights.view(-1, 1, 1)).sum(0) / weights.sum()
    averaged = state.finished(config)
    torch.testing.assert_close(averaged.W_enc_rows.detach(), mean, atol=1e-5, rtol=1e-5)
    norms = averaged.W_dec.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-6, rtol=0)


def test_the_learning_rate_follows_the_root_of_the_dictionary_and_short_runs_take_large_steps():
    long = TrainConfig(n_tokens=10_000_000)
    assert long.peak_lr(16_384) == pytest.approx(2e-4)
    assert long.peak_lr(65_536) == pytest.approx(1e-4)
    short = TrainConfig(n_tokens=2_000_000)
    assert short.peak_lr(3072) == short.peak_lr(4096) == pytest.approx(3e-3)
    assert short.peak_lr(65_536) == pytest.approx(1e-3)
    assert TrainConfig(lr=0.5).peak_lr(3072) == 0.5


def test_k_goes_from_its_start_to_that_of_the_sae() -> None:
    config = SHORT.model_copy(update={"anneal": AnnealConfig(k_from=20, k_fraction=0.5)})
    ks = [config.k_at(step, 4) for step in range(config.n_steps)]
    assert ks[0] == 20
    assert ks[20:] == [4] * 20
    assert all(a >= b for a, b in itertools.pairwise(ks))
    assert SHORT.k_at(0, 4) == 4


def test_annealing_reaches_the_selection(tiny_store: ActivationStore) -> None:
    config = SHORT.model_copy(update={"anneal": AnnealConfig(k_from=12, k_fraction=1.0)})
    state = TrainState.fresh(build_sae("batch_topk", d_in=16, n_latents=48, k=2), config)
    x = next(iter(tiny_store.batches(500, seed=0)))
    assert float(step(state, x, config, PLAIN).l0) == pytest.approx(12, rel=0.05)
    state.n_steps_done = config.n_steps - 1
    assert float(step(state, x, config, PLAIN).l0) == pytest.approx(2, rel=0.05)


def test_a_rough_encoder_product_learns_as_well(make_store: StoreMaker) -> None:
    x = _skewed() - 5.0
    store = make_store(x)
    found = [
        _fvu(
            train(
                build_sae("batch_topk", d_in=16, n_latents=64, k=6),
                store,
                TrainConfig(n_tokens=200_000, batch_tokens=1000, compute_dtype=dtype),  # type: ignore[arg-type]
            ),
            x,
        )
        for dtype in ("float32", "bfloat16", "mixed")
    ]
    assert found[1:] == pytest.approx([found[0]] * 2, rel=0.1)


def test_saes_that_are_trained_together_equal_those_trained_alone(
    tiny_store: ActivationStore,
) -> None:
    saes = {
        name: build_sae(name, d_in=16, n_latents=48, k=4, seed=index)
        for index, name in enumerate(("topk", "batch_topk", "matryoshka"))
    }
    configs = {name: SHORT.model_copy(update={"lr": 1e-3}) for name in saes}
    configs["topk"] = SHORT.model_copy(update={"lr": 3e-3, "normalize": "mean"})
    together = train_many(saes, tiny_store, configs)
    for name, sae in saes.items():
        alone = train(sae, tiny_store, configs[name])
        for key, tensor in alone.state_dict().items():
            assert torch.equal(tensor, together[name].state_dict()[key]), (name, key)


def test_other_rows_cannot_be_read_together(tiny_store: ActivationStore) -> None:
    saes = {name: build_sae("topk", d_in=16, n_latents=48, k=4) for name in "ab"}
    with pytest.raises(ConfigError, match="read the same batches"):
        train_many(saes, tiny_store, {"a": SHORT, "b": SHORT.model_copy(update={"seed": 1})})
