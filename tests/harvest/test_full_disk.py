"""A disk that fills up during a harvest costs nothing but the time to make room.

Tested on a small file system in memory where one may be mounted, and everywhere with the system's
limit on the size of a file, at which writes fail, or end half way, as they do on a full disk.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from saetools.errors import StoreError
from saetools.harvest import harvest
from saetools.models.base import TextEncoder
from saetools.store import ActivationStore, StoreWriter, verify

TEXTS = [f"document {i} speaks of " + "birds and stones " * (i % 7 + 1) for i in range(160)]
HOOK = "blocks.1.hook_resid_post"

SameStore = Callable[[Path, Path], bool]


@contextmanager
def no_file_larger_than(n_bytes: int) -> Iterator[None]:
    """Within the block writes of this process behind `n_bytes` of a file fail."""
    resource = pytest.importorskip("resource", reason="needs the limits of a Unix system")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system in memory (root on Linux)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("n_free", [0, 4096, 40_000, 150_000, 700_000])
def test_the_error_names_the_bytes_and_the_harvest_goes_on_when_there_is_room(
    n_free: int,
    small_disk: Path,
    tiny_encoder: TextEncoder,
    tmp_path: Path,
    same_store: SameStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("saetools.harvest.harvester._GROUP_TOKENS", 400)
    settings = {"hook_name": [HOOK, "mlp_out.0"], "dtype": "float32"}
    harvest(tiny_encoder, TEXTS, out=tmp_path / "whole.h5", **settings).close()
    ballast, out = small_disk / "ballast", small_disk / "acts.h5"
    commit, commits = StoreWriter.commit, 0

    def commit_while_another_program_fills_the_disk(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal commits
        commits += 1
        if commits == 3:
            ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - n_free))
        commit(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "commit", commit_while_another_program_fills_the_disk)
        with pytest.raises(StoreError, match=r"to [\d,]+ bytes.* has [\d,]+ bytes free.*make room"):
            harvest(tiny_encoder, TEXTS, out=out, **settings)
    with ActivationStore.open(out, allow_incomplete=True) as partial:
        assert not partial.complete
        assert partial.n_tokens > 0
        with ActivationStore.open(tmp_path / "whole.h5") as whole:
            assert partial.rows(0, 10**9).equal(whole.rows(0, partial.n_tokens))
    with pytest.raises(StoreError, match="make room"):
        harvest(tiny_encoder, TEXTS, out=out, **settings)
    ballast.unlink()
    harvest(tiny_encoder, TEXTS, out=out, **settings).close()
    assert same_store(tmp_path / "whole.h5", out)


def test_a_disk_without_room_for_the_header_is_named_and_leaves_nothing(
    small_disk: Path, tiny_encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saetools.harvest.prepare.refuse_if_full", lambda *_: None)
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free - 4096))
    with pytest.raises(StoreError, match=r"bytes free.*make room"):
        harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=small_disk / "acts.h5")
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


@pytest.mark.parametrize("filter", [None, "gzip"])
@pytest.mark.parametrize("at_commit", [1, 2, 5])
@pytest.mark.parametrize("n_free", [0, 5000, 70_000])
def test_where_writes_fail_the_error_names_the_bytes_and_no_committed_row_is_lost(
    n_free: int,
    at_commit: int,
    filter: str | None,
    tiny_encoder: TextEncoder,
    tmp_path: Path,
    same_store: SameStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("saetools.harvest.harvester._GROUP_TOKENS", 400)
    monkeypatch.setattr("saetools.store.writer.CHUNK_ROWS", 256)
    settings = {"hook_name": [HOOK, "mlp_out.0"], "dtype": "float32", "filter": filter}
    harvest(tiny_encoder, TEXTS, out=tmp_path / "whole.h5", **settings).close()
    commit, out, n_tokens = StoreWriter.commit, tmp_path / "acts.h5", []

    def commit_until_the_limit(writer, *args, **kwargs):  # type: ignore[no-untyped-def]
        n_tokens.append(writer.n_tokens)
        if len(n_tokens) < at_commit:
            commit(writer, *args, **kwargs)
            return
        with no_file_larger_than(out.stat().st_size + n_free):
            commit(writer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "commit", commit_until_the_limit)
        with pytest.raises(StoreError, match=r"File too large.*to [\d,]+ bytes.*make room"):
            harvest(tiny_encoder, TEXTS, out=out, **settings)
    with (
        ActivationStore.open(out, allow_incomplete=True) as partial,
        ActivationStore.open(tmp_path / "whole.h5") as whole,
    ):
        assert not partial.complete
        assert partial.n_tokens == n_tokens[-1]
        assert partial.rows(0, 10**9).equal(whole.rows(0, partial.n_tokens))
        assert verify(partial) == []
    harvest(tiny_encoder, TEXTS, out=out, **settings).close()
    assert same_store(tmp_path / "whole.h5", out)


def test_a_header_that_cannot_be_written_is_named_and_leaves_nothing(
    tiny_encoder: TextEncoder, tmp_path: Path
) -> None:
    with (
        no_file_larger_than(4096),
        pytest.raises(StoreError, match=r"could not begin .*File too large.*to [\d,]+ bytes"),
    ):
        harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "acts.h5")
    assert list(tmp_path.iterdir()) == []
