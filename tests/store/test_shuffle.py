"""Neighbours in a batch are of one document no more often than chance within a buffer allows."""

import numpy as np
import pytest
import torch

from saetools.store import ActivationStore

DOC_LEN = 10
CHUNK_ROWS = 4096


def _chance(n_rows: int, doc_len: int) -> float:
    """That two rows, drawn from a buffer of whole documents, are of one document."""
    return (doc_len - 1) / (n_rows - 1)


@pytest.mark.parametrize("group_chunks", [1, 2, 32])
def test_neighbours_share_a_document_as_often_as_chance_in_a_buffer(  # type: ignore[no-untyped-def]
    make_store, monkeypatch: pytest.MonkeyPatch, group_chunks: int
) -> None:
    monkeypatch.setattr("saetools.store.shuffle.GROUP_CHUNKS", group_chunks)
    monkeypatch.setattr("saetools.store.reader.GROUP_CHUNKS", group_chunks)
    n_rows = 5 * CHUNK_ROWS
    numbered = torch.arange(n_rows, dtype=torch.float32).unsqueeze(1)
    store: ActivationStore = make_store(numbered, doc_len=DOC_LEN, held_out_fraction=0.0)
    same, expected = 0, 0.0
    n_groups = -(-5 // group_chunks)
    sizes = [len(part) * CHUNK_ROWS for part in np.array_split(np.arange(5), n_groups)]
    for epoch in range(20):
        for batch in store.batches(512, seed=0, epoch=epoch):
            docs = batch.squeeze(1).numpy().astype(int) // DOC_LEN
            same += int((docs[1:] == docs[:-1]).sum())
        expected += sum(size * 511 / 512 * _chance(size, DOC_LEN) for size in sizes)
    assert abs(same - expected) < 4 * expected**0.5, (same, expected)


def test_the_order_of_an_epoch_is_the_one_it_always_was(make_store) -> None:  # type: ignore[no-untyped-def]
    numbered = torch.arange(9000, dtype=torch.float32).unsqueeze(1)
    first = next(make_store(numbered).batches(4, seed=0, epoch=0)).squeeze(1).int().tolist()
    assert first == [1002, 3401, 1937, 3389]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("group_chunks", [1, 2, 32])
def test_an_epoch_can_be_taken_up_at_every_batch_of_it(  # type: ignore[no-untyped-def]
    make_store, monkeypatch: pytest.MonkeyPatch, group_chunks: int, dtype: str
) -> None:
    monkeypatch.setattr("saetools.store.shuffle.GROUP_CHUNKS", group_chunks)
    monkeypatch.setattr("saetools.store.reader.GROUP_CHUNKS", group_chunks)
    x = torch.randn(5 * CHUNK_ROWS - 1234, 3, generator=torch.Generator().manual_seed(0))
    store: ActivationStore = make_store(x, doc_len=DOC_LEN, dtype=dtype)
    whole = list(store.batches(777, seed=5, epoch=2))
    assert len(whole) == store.n_batches(777) > 15
    for start in range(len(whole) + 2):
        rest = list(store.batches(777, seed=5, epoch=2, start=start))
        assert len(rest) == len(whole[start:])
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[start:], strict=True))


def test_batches_that_were_given_out_do_not_change(make_store) -> None:  # type: ignore[no-untyped-def]
    store = make_store(torch.randn(9000, 4, generator=torch.Generator().manual_seed(0)))
    batches = store.batches(512, seed=0)
    first = next(batches)
    copy = first.clone()
    assert len(list(batches)) == store.n_batches(512) - 1
    assert torch.equal(first, copy)


def test_pinned_memory_asked_for_without_a_gpu_is_no_error(make_store) -> None:  # type: ignore[no-untyped-def]
    store = make_store(torch.ones(100, 4))
    (batch,) = store.batches(64, seed=0, pin_memory=True)
    assert batch.is_pinned() == torch.cuda.is_available()


def test_a_failure_while_reading_ahead_reaches_the_reader(  # type: ignore[no-untyped-def]
    make_store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(torch.ones(100, 4))

    def broken(*_: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr("saetools.store.hooks.HookRows.read_kept", broken)
    with pytest.raises(OSError, match="disk on fire"):
        next(store.batches(64, seed=0))
