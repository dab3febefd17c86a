"""Precisions: the bits on disk, the bound of the error, and the error that a store says it made."""

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from saetools.errors import ConfigError, StoreError
from saetools.store import ActivationStore, stored
from saetools.store.schema import to_disk

HOOK = "blocks.0.hook_resid_post"


def _rows(n: int, d: int = 8) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n))


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, (3, 5), elements=some.floats(-(2.0**90), 2.0**90, width=32)))
def test_int8_is_off_by_no_more_than_half_a_scale(values: np.ndarray) -> None:
    x = torch.from_numpy(values)
    disk = to_disk(x, "int8")
    assert disk.scales is not None
    np.testing.assert_allclose(disk.scales, np.abs(values).max(1) / 127, rtol=1e-6)
    error = (stored(x, "int8").double() - x.double()).abs().numpy()
    bound = disk.scales[:, None].astype(np.float64) / 2
    assert (error <= bound * (1 + 1e-4) + 1e-38).all()


def test_int8_keeps_rows_of_zeros_and_shows_what_is_not_finite() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, -127.0], [float("inf"), 1.0], [1.0, float("nan")]])
    seen = stored(x, "int8")
    assert seen[0].tolist() == [0.0, 0.0]
    assert seen[1].tolist() == [1.0, -127.0]
    assert not seen[2].isfinite().all()
    assert not seen[3].isfinite().all()


def test_an_int8_store_has_one_scale_a_row_and_reads_as_float32(make_store) -> None:  # type: ignore[no-untyped-def]
    x = _rows(5000)
    store = make_store(x, dtype="int8")
    assert torch.equal(store.rows(0, 5000), stored(x, "int8"))
    assert torch.equal(store.rows(4090, 4100), stored(x, "int8")[4090:4100])
    with h5py.File(store.path) as file:
        by_hand = file[f"activations/{HOOK}"][:].astype(np.float32)
        by_hand *= file[f"scales/{HOOK}"][:][:, None]
    np.testing.assert_array_equal(by_hand, store.rows(0, 5000).numpy())
    batch = next(store.batches(5000, seed=0, split="all"))
    assert torch.equal(batch.sort(0).values, stored(x, "int8").sort(0).values)


def test_bfloat16_is_the_upper_half_of_float32(make_store) -> None:  # type: ignore[no-untyped-def]
    x = torch.tensor([[1.0, -2.5, 3.140625, 1e30]] * 20)
    with h5py.File(make_store(x, dtype="bfloat16").path) as file:
        bits = file[f"activations/{HOOK}"][0]
    np.testing.assert_array_equal(bits, x.bfloat16()[0].view(torch.uint16).numpy())
    np.testing.assert_array_equal(
        (bits.astype(np.uint32) << 16).view(np.float32), x.bfloat16()[0].float().numpy()
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_the_precision_error_is_the_variance_that_was_lost(make_store, dtype: str) -> None:  # type: ignore[no-untyped-def]
    x = _rows(3000) + 3
    store = make_store(x, dtype=dtype)
    seen = stored(x, dtype).double()
    expected = (x.double() - seen).square().sum() / (seen - seen.mean(0)).square().sum()
    assert store.precision_error() == pytest.approx(float(expected), rel=1e-9)
    assert (store.precision_error() == 0) == (dtype == "float32")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_the_manifest_of_a_finished_store_says_what_its_precision_lost(  # type: ignore[no-untyped-def]
    write_store, numbers, dtype: str
) -> None:
    x = numbers(300)
    path = write_store("a.h5", x, dtype=dtype, commits=[100, 100], finish=False)
    with ActivationStore.open(path, allow_incomplete=True) as unfinished:
        assert "precision_error" not in unfinished.manifest
    write_store("a.h5", x, dtype=dtype, commits=[100])
    with ActivationStore.open(path) as store:
        assert store.manifest["precision_error"] == {HOOK: store.precision_error()}
        manifest = store.manifest
    write_store("a.h5", x, dtype=dtype, commits=[0])  # the same harvest again
    with ActivationStore.open(path) as store:
        assert store.manifest == manifest
    with pytest.raises(StoreError, match="holds another harvest"):
        write_store("a.h5", x, dtype=dtype, ctx_len=9)


def test_a_precision_error_that_is_no_number_is_null(make_store) -> None:  # type: ignore[no-untyped-def]
    store = make_store(torch.full((20, 4), 1.001), dtype="bfloat16")
    assert store.precision_error() == float("inf")
    assert store.manifest["precision_error"] == {HOOK: None}


def test_an_unknown_precision_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'float8'.*float32, float16, bfloat16, int8"):
        stored(torch.ones(1, 1), "float8")


def test_norm_quantiles_are_within_a_bin_of_the_true_ones(make_store) -> None:  # type: ignore[no-untyped-def]
    x = _rows(4000) * torch.logspace(-5, 7, 4000).unsqueeze(1)
    norms = x.double().norm(dim=1).numpy()
    moments = make_store(x).moments()
    inside = (0.3, 0.5, 0.75)  # beyond the histogram's range only the ends are known
    for q in inside:
        assert moments.norm_quantile(q) == pytest.approx(float(np.quantile(norms, q)), rel=0.05)
    assert moments.norm_quantile(0.0) == pytest.approx(norms.min())
    assert moments.norm_quantile(1.0) == pytest.approx(norms.max())


def test_quantiles_of_rows_that_are_all_equal_are_exact(make_store) -> None:  # type: ignore[no-untyped-def]
    moments = make_store(torch.full((50, 4), 1.5)).moments()
    assert [moments.norm_quantile(q) for q in (0.0, 0.5, 1.0)] == [3.0, 3.0, 3.0]
    zeros = make_store(torch.zeros(50, 4), name="zeros.h5").moments()
    assert zeros.norm_quantile(0.5) == 0.0
    with pytest.raises(ConfigError, match="from 0 to 1"):
        zeros.norm_quantile(2.0)
