"""fvu is the unexplained variance about the mean, and nothing flatters it."""

from collections.abc import Callable

import pytest
import torch
from sklearn.metrics import explained_variance_score, r2_score

from saetools.evaluate import evaluate
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore

StoreMaker = Callable[..., ActivationStore]
SaeMaker = Callable[..., SAE]


def values(sae: SAE, store: ActivationStore, **kwargs: object) -> dict[str, float]:
    return evaluate(sae, store, metrics=["reconstruction"], **kwargs).values


def gauss(n: int = 3200, d: int = 16) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(3))


def test_a_perfect_sae_has_fvu_0_and_cosine_1(
    tiny_store: ActivationStore, identity_sae: SaeMaker
) -> None:
    found = values(identity_sae(16), tiny_store)
    assert found["fvu"] == pytest.approx(0.0, abs=1e-12)
    assert found["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert found["norm_ratio"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("centre", [0.0, 5.0, 300.0])
def test_predicting_the_mean_has_fvu_1_wherever_the_data_lie(
    make_store: StoreMaker, constant_sae: SaeMaker, centre: float
) -> None:
    x = gauss() + centre
    store = make_store(x)
    found = values(constant_sae(x.mean(0)), store, split="all")
    assert found["fvu"] == pytest.approx(1.0, abs=1e-4)


def test_data_far_from_the_origin_do_not_inflate_explained_variance(
    make_store: StoreMaker, identity_sae: SaeMaker
) -> None:
    x = gauss()
    sae = identity_sae(16, k=4)
    near = values(sae, make_store(x, name="near.h5"))
    with torch.no_grad():
        sae.b_dec.fill_(5.0)
    far = values(sae, make_store(x + 5.0, name="far.h5"))
    assert 0.2 < near["fvu"] < 0.8
    assert far["fvu"] == pytest.approx(near["fvu"], rel=1e-4)
    assert far["nmse_uncentered"] < 0.1 * near["nmse_uncentered"]  # what SAEBench's formula sees


def test_fvu_is_one_ratio_of_sums_and_not_a_mean_of_batches(make_store: StoreMaker) -> None:
    loud = torch.arange(12000) < 4096  # the first batch has other variance than the rest
    x = gauss(12000, 8) * torch.where(loud, 10.0, 0.1).unsqueeze(1)
    sae = build_sae("topk", d_in=8, n_latents=32, k=2, meta={"hook_name": "resid"})
    found = values(sae, make_store(x, hook_name="resid"), split="all")
    x_hat = sae(x).detach().double()
    expected = (x - x_hat).square().sum() / (x - x.double().mean(0)).square().sum()
    assert found["fvu"] == pytest.approx(float(expected), rel=1e-6)


def test_each_narrower_width_has_its_own_fvu(make_store: StoreMaker) -> None:
    sae = build_sae("matryoshka", d_in=16, n_latents=64, k=8, widths=(8, 24, 64))
    with torch.no_grad():
        sae.threshold.fill_(0.5)
    x = gauss()
    found = values(sae, make_store(x), split="all")
    latents = sae.encode(x)
    variance = float((x - x.mean(0)).square().sum())
    for end, width in {"_at_8": 8, "_at_24": 24, "": 64}.items():
        x_hat = sae.decode(latents.prefix(width)).detach()
        error = float((x - x_hat).square().sum())
        assert found[f"fvu{end}"] == pytest.approx(error / variance, rel=1e-4)
        bias = float(x_hat.square().sum() / (x * x_hat).sum())
        assert found[f"reconstruction_bias{end}"] == pytest.approx(bias, rel=1e-4)
        cosine = torch.nn.functional.cosine_similarity(x, x_hat).mean()
        assert found[f"cosine{end}"] == pytest.approx(float(cosine), abs=1e-5)
    assert len(found) == 3 * 7, "every figure, three times"


@pytest.mark.parametrize("centre", [0.0, 5.0])
def test_fvu_and_its_variants_are_what_scikit_learn_and_torch_say(
    make_store: StoreMaker, identity_sae: SaeMaker, centre: float
) -> None:
    x = gauss() + centre
    sae = identity_sae(16, k=4)
    with torch.no_grad():
        sae.b_dec.fill_(0.5)
    found = values(sae, make_store(x), split="all")
    x_hat = sae(x).detach()
    wide = {"multioutput": "variance_weighted"}
    assert 1 - found["fvu"] == pytest.approx(r2_score(x, x_hat, **wide), abs=1e-5)
    explained = explained_variance_score(x, x_hat, **wide)
    assert 1 - found["fvu_residual_variance"] == pytest.approx(explained, abs=1e-5)
    residual = (x - x_hat).square().sum(1)
    by_token = float((residual / (x - x.mean(0)).square().sum(1)).mean())
    assert found["fvu_by_token"] == pytest.approx(by_token, rel=1e-4)


def test_a_constant_error_costs_fvu_and_not_the_variance_of_the_residual(
    make_store: StoreMaker, identity_sae: SaeMaker
) -> None:
    x = gauss()
    sae = identity_sae(16)
    with torch.no_grad():  # latents still see x, and the output is shifted by 1 in each dimension
        sae.b_dec.fill_(1.0)
        sae.b_enc.copy_(torch.cat([torch.ones(16), -torch.ones(16)]))
    found = values(sae, make_store(x), split="all")
    expected = 16 * len(x) / float((x - x.mean(0)).square().sum())
    assert found["fvu"] == pytest.approx(expected, rel=1e-4)
    assert found["fvu_residual_variance"] == pytest.approx(0.0, abs=1e-5)


def test_halving_the_reconstruction_is_seen_as_shrinkage(
    make_store: StoreMaker, identity_sae: SaeMaker
) -> None:
    sae = identity_sae(16)
    with torch.no_grad():
        sae.W_dec.mul_(0.5)
    found = values(sae, make_store(gauss()))
    assert found["reconstruction_bias"] == pytest.approx(0.5, rel=1e-5)
    assert found["norm_ratio"] == pytest.approx(0.5, rel=1e-5)
    assert found["cosine"] == pytest.approx(1.0, abs=1e-6)


def test_saebench_formula_keeps_the_mean_and_fvu_does_not(
    make_store: StoreMaker, identity_sae: SaeMaker
) -> None:
    """Card 21: x ~ N(3, 1)^16 and an error of half its size: true 0.75, theirs 0.93."""
    x = gauss(32_000) + 3.0
    sae = identity_sae(16)
    with torch.no_grad():
        sae.b_dec.fill_(3.0)
        sae.W_dec.mul_(0.5)
    found = values(sae, make_store(x), split="all")
    squares = x.square()
    error = (x - sae(x).detach()).square().sum(1).mean()
    theirs = 1 - error / (squares.sum(1).mean() - squares.mean(0).mean() ** 2)
    assert 1 - found["fvu"] == pytest.approx(0.75, abs=0.01)
    assert float(theirs) == pytest.approx(0.93, abs=0.03)
    assert 1 - found["nmse_uncentered"] == pytest.approx(0.975, abs=0.01)


def test_the_standard_error_shrinks_with_the_number_of_documents(
    make_store: StoreMaker, identity_sae: SaeMaker
) -> None:
    sae = identity_sae(16, k=4)
    # Every document has its own loudness, so that documents differ.
    loudness = torch.rand(800, generator=torch.Generator().manual_seed(0)).repeat_interleave(16)
    x = gauss(12800) * loudness.unsqueeze(1) + 1.0
    few = evaluate(sae, make_store(x[:800], name="few.h5"), metrics=["reconstruction"], split="all")
    many = evaluate(sae, make_store(x, name="many.h5"), metrics=["reconstruction"], split="all")
    ratio = few.stderr["fvu"] / many.stderr["fvu"]
    assert 2.0 < ratio < 8.0  # sixteen times the documents: about a quarter of the error
