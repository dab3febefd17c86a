"""An activation store: what goes in comes out, and nothing but what was committed."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from saetools.errors import HookNotFoundError, IncompleteStoreError, StoreError
from saetools.store import ActivationStore, Moments, StoreWriter, TokenColumns

HOOK = "blocks.0.hook_resid_post"


def _rows(n: int, d: int = 8) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n))


def _writer(path: Path, n_docs: int = 10, **manifest: object) -> StoreWriter:
    return StoreWriter(
        path,
        manifest={"widths": {HOOK: 8}, "dtype": "float32", "model": {"name": "m"}, **manifest},
        labels=["a"] * n_docs,
        titles=["t"] * n_docs,
        held_out=np.zeros(n_docs, dtype=bool),
    )


def _columns(n: int, doc: int) -> TokenColumns:
    return TokenColumns(*(np.full(n, value, np.int32) for value in (7, doc, 3)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rows_come_back_in_the_precision_they_were_stored(make_store, dtype: str) -> None:  # type: ignore[no-untyped-def]
    x = _rows(300)
    store = make_store(x, dtype=dtype)
    expected = x.to(getattr(torch, dtype)).float()
    assert torch.equal(store.rows(0, 300), expected)
    assert torch.equal(store.rows(17, 40), expected[17:40])


def test_moments_equal_those_of_all_rows_in_float64(make_store) -> None:  # type: ignore[no-untyped-def]
    x = _rows(5000) + 5
    moments = make_store(x).moments()
    np.testing.assert_allclose(moments.mean, x.double().mean(0).numpy(), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, x.double().var(0, unbiased=False), rtol=1e-10)
    assert moments.mean_sq_norm == pytest.approx(float(x.double().square().sum(1).mean()))


def test_merging_moments_in_parts_equals_merging_at_once() -> None:
    x = _rows(1000)
    parts = Moments.empty(8)
    for part in x.split([1, 0, 400, 599]):
        parts = parts.merged(part)
    whole = Moments.empty(8).merged(x)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-10)
    np.testing.assert_allclose(parts.deviation, whole.deviation, rtol=1e-10)


def test_documents_and_splits(make_store) -> None:  # type: ignore[no-untyped-def]
    store = make_store(_rows(330), doc_len=16)
    assert store.n_docs == 21
    assert store.doc_spans[0].tolist() == [0, 16]
    assert store.doc_spans[20].tolist() == [320, 330]
    train = np.concatenate([b.doc for b in store.stream(split="train", batch_tokens=50)])
    away = np.concatenate([b.doc for b in store.stream(split="held_out", batch_tokens=50)])
    assert not set(train) & set(away)
    assert len(train) + len(away) == 330
    assert len(away) == store.n_rows("held_out")
    for batch in store.stream(split="train", batch_tokens=50):
        assert torch.equal(batch.x, store.rows(0, 330)[torch.from_numpy(batch.row)])


def test_rows_after_the_last_commit_do_not_count(tmp_path: Path) -> None:
    with _writer(tmp_path / "a.h5") as writer:
        writer.commit({HOOK: _rows(20)}, _columns(20, 0), n_docs_done=1)
    with h5py.File(tmp_path / "a.h5", "r+") as file:  # as a kill between data and counter leaves it
        file[f"activations/{HOOK}"].resize(33, axis=0)
        file["doc"].resize(33, axis=0)
    store = ActivationStore.open(tmp_path / "a.h5", allow_incomplete=True)
    assert store.n_tokens == 20
    store.close()
    with _writer(tmp_path / "a.h5") as writer:
        assert writer.n_tokens == 20
        writer.commit({HOOK: _rows(5)}, _columns(5, 1), n_docs_done=2)
        writer.finish()
    both = torch.cat([_rows(20), _rows(5)])
    again = ActivationStore.open(tmp_path / "a.h5")
    assert torch.equal(again.rows(0, 25), both)
    np.testing.assert_allclose(again.moments().mean, both.double().mean(0).numpy(), rtol=1e-12)


def test_an_unfinished_store_is_refused_and_says_how_far_it_came(tmp_path: Path) -> None:
    with _writer(tmp_path / "a.h5") as writer:
        writer.commit({HOOK: _rows(20)}, _columns(20, 0), n_docs_done=1)
    with pytest.raises(IncompleteStoreError, match="after 20 tokens of 1 documents"):
        ActivationStore.open(tmp_path / "a.h5")


def test_truncated_foreign_and_absent_files_are_refused_by_name(tmp_path: Path, make_store) -> None:  # type: ignore[no-untyped-def]
    store = make_store(_rows(300))
    store.close()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(store.path.read_bytes()[:-500])
    with pytest.raises(StoreError, match=r"cut\.h5"):
        ActivationStore.open(cut)
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = [1, 2]
    with pytest.raises(StoreError, match=r"foreign\.h5 is no activation store"):
        ActivationStore.open(tmp_path / "foreign.h5")
    with pytest.raises(StoreError, match="no activation store at"):
        ActivationStore.open(tmp_path / "absent.h5")


def test_another_harvest_is_not_written_over(tmp_path: Path) -> None:
    with _writer(tmp_path / "a.h5") as writer:
        writer.commit({HOOK: _rows(20)}, _columns(20, 0), n_docs_done=1)
    with pytest.raises(StoreError, match="holds another harvest"):
        _writer(tmp_path / "a.h5", model={"name": "other"})


def test_a_missing_hook_is_named_with_those_that_are_there(make_store) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(HookNotFoundError, match=HOOK):
        make_store(_rows(30)).rows(0, 5, hook_name="blocks.1.hook_resid_post")


class TestShuffledBatches:
    """The order is a function of (seed, epoch), covers each row once, and can start anywhere."""

    @pytest.fixture
    def store(self, make_store) -> ActivationStore:  # type: ignore[no-untyped-def]
        numbered = torch.arange(20_000, dtype=torch.float32).unsqueeze(1)
        return make_store(numbered, doc_len=10)

    @staticmethod
    def _ids(store: ActivationStore, **options: int) -> list[int]:
        batches = store.batches(512, **{"seed": 0, **options})
        return torch.cat(list(batches)).squeeze(1).int().tolist()

    def test_every_training_row_once_and_no_held_out_row(self, store: ActivationStore) -> None:
        ids = self._ids(store)
        assert len(ids) == len(set(ids)) == store.n_rows("train") // 512 * 512
        assert not store.held_out[np.array(ids) // 10].any()

    def test_same_seed_and_epoch_same_order_else_another(self, store: ActivationStore) -> None:
        assert self._ids(store) == self._ids(store)
        assert self._ids(store) != self._ids(store, epoch=1)
        assert self._ids(store) != self._ids(store, seed=1)

    @pytest.mark.parametrize("start", [1, 7, 30])
    def test_starting_late_gives_the_rest_of_the_same_order(
        self, store: ActivationStore, start: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("saetools.store.shuffle.GROUP_CHUNKS", 2)
        assert self._ids(store, start=start) == self._ids(store)[start * 512 :]

    def test_neighbours_do_not_come_from_one_document(self, store: ActivationStore) -> None:
        docs = np.array(self._ids(store)) // 10
        same = (docs[1:] == docs[:-1]).mean()
        assert same < 0.003, "chance is 10 rows in 20,000; unshuffled it would be 0.9"

    def test_a_store_smaller_than_a_batch_gives_one_batch(self, store: ActivationStore) -> None:
        (only,) = store.batches(50_000, seed=0)
        assert len(only) == store.n_rows("train")
        assert store.n_batches(50_000) == 1
