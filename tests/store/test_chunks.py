"""Rows by chunk offset are the rows that h5py reads, whatever the range, the filter or the file."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from saetools.errors import StoreError
from saetools.store import ActivationStore
from saetools.store.chunks import DatasetRows
from saetools.store.rawfile import RawFile

HOOK = "blocks.0.hook_resid_post"
RANGES = [
    (0, 0),
    (7, 7),
    (0, 1),
    (4095, 4096),
    (4096, 4097),
    (4095, 4097),
    (100, 8500),
    (8999, 9000),
]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_any_range_equals_what_h5py_reads(write_store, numbers, dtype: str) -> None:  # type: ignore[no-untyped-def]
    path = write_store("a.h5", numbers(9000), commits=[5, 4000, 3000, 1995], dtype=dtype)
    store = ActivationStore.open(path)
    rows = store._dataset_rows(f"activations/{HOOK}")
    assert rows.direct
    with h5py.File(path) as file:
        for start, stop in [*RANGES, (0, 9000)]:
            found = np.empty((stop - start, 8), rows.dtype)
            rows.read_into(found, start)
            np.testing.assert_array_equal(found, file[f"activations/{HOOK}"][start:stop])
            np.testing.assert_array_equal(store.columns(start, stop).doc, file["doc"][start:stop])
            shown = rows.view(start, stop)
            assert shown is None or np.array_equal(shown, found)
            assert store.rows(start, stop).shape == (stop - start, 8)


def test_ranges_beyond_the_end_are_cut_and_negative_ones_refused(make_store) -> None:  # type: ignore[no-untyped-def]
    store = make_store(torch.ones(30, 4))
    assert len(store.rows(20, 99)) == 10
    assert len(store.rows(40, 99)) == len(store.columns(40, 99).doc) == 0
    with pytest.raises(StoreError, match="counted from 0"):
        store.rows(-5, 10)


def test_a_chunk_that_was_never_written_reads_as_hdf5_reads_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", (50, 3), chunks=(8, 3), dtype=np.float32, fillvalue=7)
        data[20:30] = np.arange(30).reshape(10, 3)
    with h5py.File(tmp_path / "a.h5") as file:
        rows = DatasetRows(file["x"], RawFile(tmp_path / "a.h5"), n_rows=50)
        out = np.empty((50, 3), np.float32)
        rows.read_into(out, 0)
        np.testing.assert_array_equal(out, file["x"][:])


@pytest.mark.parametrize("options", [{}, {"dtype": ">f4"}, {"chunks": (8, 2)}])
def test_other_layouts_go_through_hdf5(tmp_path: Path, options: dict[str, object]) -> None:
    values = np.arange(60, dtype=np.float32).reshape(15, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, **options)
    with h5py.File(tmp_path / "a.h5") as file:
        rows = DatasetRows(file["x"], RawFile(tmp_path / "a.h5"), n_rows=15)
        assert not rows.direct
        out = np.empty((9, 4), rows.dtype)
        rows.read_into(out, 3)
        np.testing.assert_array_equal(out, values[3:12])


@pytest.mark.parametrize("name", ["gzip", "blosc2-zstd", "zstd", "bitshuffle-lz4"])
def test_a_filtered_store_has_the_same_rows(write_store, numbers, name: str) -> None:  # type: ignore[no-untyped-def]
    if name != "gzip":
        pytest.importorskip("hdf5plugin", reason="needs the extra saetools[filters]")
    x = numbers(5000)
    plain = ActivationStore.open(write_store("a.h5", x, commits=[3000, 2000]))
    small = ActivationStore.open(write_store("b.h5", x, commits=[3000, 2000], filter=name))
    assert not small._dataset_rows(f"activations/{HOOK}").direct
    assert torch.equal(plain.rows(0, 5000), small.rows(0, 5000))
    one, two = (list(store.batches(512, seed=3)) for store in (plain, small))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    with h5py.File(plain.path) as a, h5py.File(small.path) as b:
        name = f"checksums/activations/{HOOK}"
        np.testing.assert_array_equal(a[name][:], b[name][:])


def test_a_filter_that_is_not_installed_says_how_to_get_it(
    write_store,  # type: ignore[no-untyped-def]
    numbers,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hdf5plugin", None)
    with pytest.raises(StoreError, match=r'pip install "saetools\[filters\]"'):
        write_store("a.h5", numbers(20), filter="zstd")


def test_a_closed_store_reads_nothing(make_store) -> None:  # type: ignore[no-untyped-def]
    store = make_store(torch.ones(30, 4))
    store.rows(0, 3)
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store._hooks[HOOK].floats(0, 3)


def test_a_hook_is_found_by_any_of_its_names(write_store, numbers) -> None:  # type: ignore[no-untyped-def]
    aliases = {HOOK: ["resid_post.0", "h.0"]}
    store = ActivationStore.open(write_store("a.h5", numbers(30), aliases=aliases))
    assert torch.equal(store.rows(0, 5, hook_name="resid_post.0"), store.rows(0, 5))
    assert store.width("h.0") == 8
