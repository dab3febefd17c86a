"""A merged store is the store that one harvest of everything would have written."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from saetools.errors import StoreError
from saetools.store import ActivationStore, merge, verify

HOOK = "blocks.0.hook_resid_post"


@pytest.fixture
def parts(write_store, numbers) -> tuple[Path, list[Path]]:  # type: ignore[no-untyped-def]
    """A store of 9000 rows, and the same rows as two stores."""
    x = numbers(9000)
    whole = write_store("whole.h5", x, dtype="float16")
    first = write_store("one.h5", x[:5000], dtype="float16")
    second = write_store("two.h5", x[5000:], dtype="float16", first_doc=500)
    return whole, [first, second]


def test_merged_shards_equal_the_whole(parts: tuple[Path, list[Path]], tmp_path: Path) -> None:
    whole, merged = ActivationStore.open(parts[0]), merge(parts[1], out=tmp_path / "all.h5")
    assert merged.n_tokens == 9000
    assert merged.n_docs == whole.n_docs == 900
    for start, stop in [(0, 9000), (4990, 5010), (5000, 5000), (8999, 9000)]:
        assert torch.equal(merged.rows(start, stop), whole.rows(start, stop))
        one, two = merged.columns(start, stop), whole.columns(start, stop)
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    np.testing.assert_array_equal(merged.doc_spans, whole.doc_spans)
    np.testing.assert_array_equal(merged.held_out, whole.held_out)
    assert merged.labels == whole.labels
    assert merged.titles == whole.titles
    assert merged.precision_error() == pytest.approx(whole.precision_error())
    np.testing.assert_allclose(merged.moments().variance, whole.moments().variance, rtol=1e-10)
    np.testing.assert_array_equal(merged.moments().norms, whole.moments().norms)
    batches = zip(merged.batches(512, seed=1), whole.batches(512, seed=1), strict=True)
    assert all(torch.equal(a, b) for a, b in batches)
    assert verify(merged) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_the_manifest_of_a_merged_store_is_true_of_all_its_rows(  # type: ignore[no-untyped-def]
    write_store, numbers, tmp_path: Path, dtype: str
) -> None:
    x = torch.cat([numbers(5000), 100 * numbers(4000)])  # the second half loses much more
    settings = {"dtype": dtype, "ctx_len": 64, "aliases": {HOOK: ["h.0"]}}
    write_store("whole.h5", x, **settings)
    one = write_store("one.h5", x[:5000], **settings)
    two = write_store("two.h5", x[5000:], first_doc=500, **settings)
    whole, merged = (
        ActivationStore.open(tmp_path / "whole.h5"),
        merge([one, two], out=tmp_path / "all.h5"),
    )
    for name in ("model", "widths", "dtype", "ctx_len", "aliases"):
        assert merged.manifest[name] == whole.manifest[name]
    assert merged.manifest["corpus"]["n_docs"] == whole.manifest["corpus"]["n_docs"] == 900
    assert [(shard["n_tokens"], shard["n_docs"]) for shard in merged.manifest["shards"]] == [
        (5000, 500),
        (4000, 400),
    ]
    lost = merged.manifest["precision_error"][HOOK]
    assert lost == pytest.approx(whole.manifest["precision_error"][HOOK], rel=1e-9)
    seen = merged.rows(0, 9000).double()
    expected = (x.double() - seen).square().sum() / (seen - seen.mean(0)).square().sum()
    assert lost == pytest.approx(float(expected), rel=1e-9)
    assert (lost == 0) == (dtype == "float32")


def test_shards_of_an_earlier_version_merge_without_a_precision_error(  # type: ignore[no-untyped-def]
    write_store, numbers, tmp_path: Path
) -> None:
    paths = [write_store("a.h5", numbers(30)), write_store("b.h5", numbers(40))]
    with h5py.File(paths[1], "r+") as file:
        manifest = json.loads(file.attrs["manifest"])
        del manifest["precision_error"], file["precision"]
        file.attrs["manifest"] = json.dumps(manifest)
    with merge(paths, out=tmp_path / "all.h5") as merged:
        assert "precision_error" not in merged.manifest
        assert merged.n_tokens == 70


def test_a_merged_store_is_small_and_h5py_alone_reads_it(
    parts: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    merge(parts[1], out=tmp_path / "all.h5").close()
    with h5py.File(parts[0]) as whole, h5py.File(tmp_path / "all.h5") as merged:
        name = f"activations/{HOOK}"
        assert merged[name].is_virtual
        assert merged[name].id.get_storage_size() == 0
        np.testing.assert_array_equal(merged[name][:], whole[name][:])


def test_merged_and_shards_can_be_moved_together_and_merged_again(
    parts: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    moved = [path.rename(tmp_path / "before" / path.name) for path in parts[1]]
    merge(moved, out=tmp_path / "before" / "all.h5").close()
    (tmp_path / "before").rename(tmp_path / "after")
    twice = merge([tmp_path / "after" / "all.h5", parts[0]], out=tmp_path / "twice.h5")
    expected = ActivationStore.open(parts[0]).rows(0, 9000)
    assert torch.equal(twice.rows(0, 18_000), torch.cat([expected, expected]))
    assert verify(twice) == []


def test_a_missing_or_changed_shard_is_named(  # type: ignore[no-untyped-def]
    parts: tuple[Path, list[Path]], tmp_path: Path, write_store, numbers
) -> None:
    merge(parts[1], out=tmp_path / "all.h5").close()
    kept = parts[1][1].rename(tmp_path / "elsewhere.h5")
    with pytest.raises(StoreError, match=r"its shard .*two\.h5 is not there"):
        ActivationStore.open(tmp_path / "all.h5")
    write_store("two.h5", numbers(30), dtype="float16")
    with pytest.raises(StoreError, match=r"two\.h5 is not the one it was"):
        ActivationStore.open(tmp_path / "all.h5")
    (tmp_path / "two.h5").unlink()
    write_store("two.h5", numbers(4000), dtype="float16")
    with ActivationStore.open(tmp_path / "all.h5") as store:
        (problem,) = verify(store)
    assert problem.rows == (5000, 9000)
    kept.replace(tmp_path / "two.h5")
    with ActivationStore.open(tmp_path / "all.h5") as store:
        assert verify(store) == []


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"model": {"name": "other"}}, "differ in model"),
        ({"dtype": "float16"}, "differ in dtype, float32 and float16"),
        ({"ctx_len": 7}, "differ in ctx_len, None and 7"),
    ],
)
def test_stores_of_another_kind_are_refused_by_the_difference(  # type: ignore[no-untyped-def]
    write_store, numbers, tmp_path: Path, other: dict[str, object], named: str
) -> None:
    paths = [write_store("a.h5", numbers(30)), write_store("b.h5", numbers(30), **other)]
    with pytest.raises(StoreError, match=named):
        merge(paths, out=tmp_path / "all.h5")
    assert not (tmp_path / "all.h5").exists()


def test_what_cannot_be_merged_is_refused(write_store, numbers, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    a = write_store("a.h5", numbers(30))
    b = write_store("b.h5", numbers(30), finish=False)
    with pytest.raises(StoreError, match="no stores"):
        merge([], out=tmp_path / "all.h5")
    with pytest.raises(StoreError, match="twice"):
        merge([a, tmp_path / "." / "a.h5"], out=tmp_path / "all.h5")
    with pytest.raises(StoreError, match="stopped after"):
        merge([a, b], out=tmp_path / "all.h5")
    with pytest.raises(StoreError, match="it exists"):
        merge([a], out=a)
