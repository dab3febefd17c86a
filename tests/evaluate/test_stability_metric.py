"""Stability as a metric: a permuted copy is found whole, chance is its floor."""

from collections.abc import Callable

import pytest
import torch

from saetools.errors import ConfigError
from saetools.evaluate import evaluate
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore
from saetools.train import stability

HOOK = "blocks.0.hook_resid_post"


def _sae(seed: int) -> SAE:
    return build_sae("topk", d_in=16, n_latents=64, k=4, seed=seed, meta={"hook_name": HOOK})


def test_a_permuted_copy_is_found_whole_and_another_seed_is_chance(
    tiny_store: ActivationStore,
) -> None:
    sae = _sae(0)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    copy = sae.with_tensors({**sae.state_dict(), "W_dec": sae.W_dec.detach()[order]})
    found = evaluate(sae, tiny_store, metrics=["stability"], twins=[copy]).values
    assert (found["stability"], found["stability_90"]) == (pytest.approx(1.0), 1.0)
    assert found["stability_floor"] < 0.75
    other = evaluate(sae, tiny_store, metrics=["stability"], twins=[_sae(5)]).values
    assert other["stability"] == pytest.approx(other["stability_floor"], abs=0.03)


def test_it_is_the_figure_that_a_sweep_prints(tiny_store: ActivationStore) -> None:
    twins = [_sae(1), _sae(2)]
    report = evaluate(_sae(0), tiny_store, metrics=["stability"], twins=twins)
    expected = [stability(_sae(0), twin) for twin in twins]
    assert report.values["stability"] == pytest.approx(
        sum(found.mean_cosine for found in expected) / 2
    )
    table = report.details("stability")
    assert table is not None
    assert [row[3] for row in table.rows] == [found.matched_fraction_70 for found in expected]


def test_without_twins_it_says_how_to_name_them(
    tiny_store: ActivationStore, identity_sae: Callable[..., SAE]
) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.twins=\[RUN,\.\.\.\]"):
        evaluate(identity_sae(16), tiny_store, metrics=["stability"])
