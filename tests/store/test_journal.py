"""A commit counts as a whole or not at all, whichever write its process dies before or in."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from saetools.errors import StoreError
from saetools.store import ActivationStore, StoreWriter, TokenColumns, verify
from saetools.store import journal as journal_module
from saetools.store.journal import JournaledFile, recover

HOOKS = ("blocks.0.hook_resid_post", "blocks.1.hook_mlp_out")
N_ROWS, COMMIT_ROWS = 90, 37


class Disk:
    """What a file holds after each of the writes that were made to it."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.writes: list[tuple[int, bytes]] = []
        self.cuts: dict[int, int] = {}

    def states(self) -> Iterator[bytes]:
        """The file before each write, in the middle of it, and at the end."""
        for number, (offset, data) in enumerate(self.writes):
            yield bytes(self.content)
            if number in self.cuts:
                self.content[self.cuts[number] :] = b""
                continue
            for size in (len(data) // 2, len(data)):
                missing = offset + size - len(self.content)
                self.content.extend(bytes(max(missing, 0)))
                self.content[offset : offset + size] = data[:size]
                if size < len(data):
                    yield bytes(self.content)
        yield bytes(self.content)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Disk]:
    """Note every write and every cut that journaled files make from now on."""

    def watch(path: Path) -> Disk:
        disk = Disk(path.read_bytes())
        write, cut = journal_module._write, journal_module._cut

        def writing(file: io.FileIO, data: memoryview, offset: int) -> None:
            disk.writes.append((offset, bytes(data)))
            write(file, data, offset)

        def cutting(file: io.FileIO, size: int) -> None:
            disk.cuts[len(disk.writes)] = size
            disk.writes.append((size, b""))
            cut(file, size)

        monkeypatch.setattr(journal_module, "_write", writing)
        monkeypatch.setattr(journal_module, "_cut", cutting)
        return disk

    return watch


def _writer(path: Path, filter: str | None) -> StoreWriter:
    return StoreWriter(
        path,
        manifest={"widths": dict.fromkeys(HOOKS, 6), "dtype": "float32", "model": {"name": "m"}},
        labels=["a"] * N_ROWS,
        titles=["t"] * N_ROWS,
        held_out=np.zeros(N_ROWS, dtype=bool),
        filter=filter,  # type: ignore[arg-type]
    )


def _fill(path: Path, filter: str | None) -> None:
    """Write the rows that are not there yet, in the same commits whoever began."""
    x = torch.randn(N_ROWS, 6, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    with _writer(path, filter) as writer:
        while writer.n_tokens < N_ROWS:
            rows = np.arange(writer.n_tokens, min(writer.n_tokens + COMMIT_ROWS, N_ROWS))
            columns = TokenColumns(*(rows.astype(np.int32) // n for n in (1, 2, 3)))
            part = {hook: x[rows] * n for n, hook in enumerate(HOOKS, 1)}
            writer.commit(part, columns, n_docs_done=int(rows[-1]) + 1)
        writer.finish()


def _datasets(path: Path) -> dict[str, bytes]:
    """Bytes of every dataset; of two slots the valid one."""
    found: dict[str, bytes] = {}

    def add(name: str, node: h5py.Dataset | h5py.Group) -> None:
        if isinstance(node, h5py.Dataset):
            is_slots = name.split("/")[0] in ("moments", "norms", "precision")
            is_text = h5py.check_string_dtype(node.dtype)
            data = node[slot] if is_slots else node.asstr()[...] if is_text else node[...]
            found[name] = np.asarray(data.astype(str) if is_text else data).tobytes()

    with h5py.File(path) as file:
        slot = int(file.attrs["committed"][2]) % 2
        file.visititems(add)
    return found


@pytest.mark.parametrize(
    "filter", [None, "gzip", pytest.param("blosc2-zstd", marks=pytest.mark.slow)]
)
def test_a_death_before_or_in_any_write_costs_no_committed_row(
    filter: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    watched: Callable[[Path], Disk],
) -> None:
    if filter == "blosc2-zstd":
        pytest.importorskip("hdf5plugin", reason="needs the extra saetools[filters]")
    monkeypatch.setattr("saetools.store.writer.CHUNK_ROWS", 16)
    _fill(tmp_path / "whole.h5", filter)
    expected = _datasets(tmp_path / "whole.h5")
    path = tmp_path / "acts.h5"
    _writer(path, filter).close()
    disk = watched(path)
    _fill(path, filter)
    assert _datasets(path) == expected
    n_tokens = []
    for state in list(disk.states()):
        path.write_bytes(state)
        with ActivationStore.open(path, allow_incomplete=True) as left:
            n_tokens.append(left.n_tokens)
            assert verify(left) == []
        path.write_bytes(state)
        _fill(path, filter)
        assert _datasets(path) == expected, len(n_tokens)
    assert n_tokens == sorted(n_tokens)
    assert set(n_tokens) == {0, 37, 74, 90}


_OPS = some.lists(
    some.one_of(
        some.tuples(some.just("write"), some.integers(0, 20_000), some.integers(1, 9000)),
        some.tuples(some.just("truncate"), some.integers(0, 20_000), some.just(0)),
        some.tuples(some.just("commit"), some.just(0), some.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(ops=_OPS)
def test_a_journaled_file_reads_as_a_plain_one_and_keeps_what_was_committed(
    ops: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("file") / "a"
    path.write_bytes(bytes(range(256)) * 20)
    plain = bytearray(path.read_bytes())
    size, committed = len(plain), bytes(plain)
    file = JournaledFile(path)
    for number, (kind, offset, n) in enumerate(ops, 1):
        if kind == "commit":
            file.commit()
            committed = bytes(plain[:size])
            continue
        if kind == "write":
            plain.extend(bytes(max(offset + n - len(plain), 0)))
            plain[offset : offset + n] = bytes([number]) * n
            file.seek(offset)
            file.write(memoryview(bytes([number]) * n))
            size = max(size, offset + n)
        else:  # what comes back with a later write is not defined, so it never does here
            size = max(size, offset)
            plain.extend(bytes(max(size - len(plain), 0)))
            file.truncate(size)
        file.seek(0)
        assert file.read(size) == plain[:size]
        assert file.seek(0, io.SEEK_END) == size
    file.close()
    recover(path)
    assert path.read_bytes() == committed


def test_a_cut_counts_at_the_commit_like_any_other_change(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(9000))
    file = JournaledFile(path)
    file.truncate(5000)
    file.close()
    assert path.read_bytes() == bytes(9000)
    file = JournaledFile(path)
    file.truncate(5000)
    file.commit()
    file.close()
    assert path.read_bytes() == bytes(5000)


def test_a_half_made_commit_that_may_not_be_finished_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: Callable[[Path], Disk]
) -> None:
    path = tmp_path / "a.h5"
    _writer(path, None).close()
    disk = watched(path)
    _fill(path, None)
    states = (state for state in disk.states() if b"saetools-journal" in state[-16:])
    path.write_bytes(next(states))

    def not_allowed(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("saetools.store.journal.io.FileIO", not_allowed)
    with pytest.raises(StoreError, match=r"a\.h5 .* open it once where it may be written"):
        ActivationStore.open(path, allow_incomplete=True)


def test_a_second_writer_is_refused_and_told_why(tmp_path: Path) -> None:
    with _writer(tmp_path / "a.h5", None):
        with pytest.raises(StoreError, match=r"a\.h5 is open in another process"):
            _writer(tmp_path / "a.h5", None)
        with pytest.raises(StoreError, match="in use by a harvest"):
            ActivationStore.open(tmp_path / "a.h5", allow_incomplete=True)
