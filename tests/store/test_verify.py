"""A sound store has no problems; a flipped byte is found, and its rows are named."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from saetools.errors import StoreError
from saetools.store import ActivationStore, verify

HOOK = "blocks.0.hook_resid_post"


def _flip(path: Path, dataset: str, row: int) -> None:
    with h5py.File(path) as file:
        data = file[dataset]
        chunk = data.id.get_chunk_info_by_coord((row // 4096 * 4096,) + (0,) * (data.ndim - 1))
        row_bytes = data.dtype.itemsize * int(np.prod(data.shape[1:]))
        offset = chunk.byte_offset + row % 4096 * row_bytes
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_a_sound_store_has_no_problems(write_store, numbers, dtype: str) -> None:  # type: ignore[no-untyped-def]
    path = write_store("a.h5", numbers(9000) + 2, commits=[1, 5000, 3999], dtype=dtype)
    with ActivationStore.open(path) as store:
        assert verify(store) == []


@pytest.mark.parametrize(
    ("dataset", "row", "block"),
    [
        (f"activations/{HOOK}", 5000, (4096, 8192)),
        (f"activations/{HOOK}", 8999, (8192, 9000)),
        (f"scales/{HOOK}", 17, (0, 4096)),
        ("token_ids", 4096, (4096, 8192)),
    ],
)
def test_a_flipped_byte_is_found_with_its_rows(  # type: ignore[no-untyped-def]
    write_store, numbers, dataset: str, row: int, block: tuple[int, int]
) -> None:
    path = write_store("a.h5", numbers(9000), commits=[5000, 4000], dtype="int8")
    _flip(path, dataset, row)
    with ActivationStore.open(path) as store:
        wrong = verify(store)
    assert [(problem.where, problem.rows) for problem in wrong] == [(dataset, block)]
    assert "bytes have changed" in wrong[0].what


def test_wrong_statistics_order_and_numbers_are_found(write_store, numbers) -> None:  # type: ignore[no-untyped-def]
    path = write_store("a.h5", numbers(60))
    with h5py.File(path, "r+") as file:
        file[f"moments/{HOOK}"][1] += 1
        file["doc"][5] = 40
    with ActivationStore.open(path) as store:
        wrong = {(problem.where, problem.what[:17]) for problem in verify(store)}
    assert (f"moments/{HOOK}", "mean or variance ") in wrong
    assert ("doc", "documents are not") in wrong
    assert ("doc", "names a document ") in wrong
    with h5py.File(path, "r+") as file:
        file[f"activations/{HOOK}"][7, 3] = np.inf
        del file["pos"]
    with ActivationStore.open(path) as store:
        assert [problem.where for problem in verify(store)] == ["pos"]
    with h5py.File(path, "r+") as file:
        file["pos"] = np.zeros(60, np.int32)
    with ActivationStore.open(path) as store:
        assert any(problem.rows == (7, 8) for problem in verify(store))


def test_checksums_do_not_depend_on_how_rows_were_committed(write_store, numbers) -> None:  # type: ignore[no-untyped-def]
    x = numbers(9000)
    whole = write_store("whole.h5", x)
    write_store("parts.h5", x, commits=[4000], finish=False)
    with h5py.File(whole.with_name("parts.h5"), "r+") as file:  # as a kill in a commit leaves it
        file[f"activations/{HOOK}"].resize(8000, axis=0)
        file[f"checksums/activations/{HOOK}"].resize(1, axis=0)
    write_store("parts.h5", x, commits=[96, 1, 4095, 2000], finish=True)
    with h5py.File(whole) as one, h5py.File(whole.with_name("parts.h5")) as two:
        for name in (f"activations/{HOOK}", "token_ids", "doc", "pos"):
            np.testing.assert_array_equal(one[f"checksums/{name}"], two[f"checksums/{name}"])
            assert len(one[f"checksums/{name}"]) == 3


def test_an_unfinished_store_can_be_verified(write_store, numbers) -> None:  # type: ignore[no-untyped-def]
    path = write_store("a.h5", numbers(5000), finish=False)
    with ActivationStore.open(path, allow_incomplete=True) as store:
        assert verify(store) == []


def test_an_earlier_store_is_read_and_verify_says_what_it_lacks(write_store, numbers) -> None:  # type: ignore[no-untyped-def]
    x = numbers(50)
    path = write_store("a.h5", x)
    with h5py.File(path, "r+") as file:
        for name in ("norms", "precision", "checksums"):
            del file[name]
    with ActivationStore.open(path) as store:
        assert torch.equal(store.rows(0, 50), x)
        with pytest.raises(StoreError, match="does not say what storing it as float32 lost"):
            store.precision_error()
        assert any(problem.where.startswith("checksums/") for problem in verify(store))
