"""Many processes harvest what one would: the same rows, the same split, each shard resumable."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from saetools.corpus import held_out
from saetools.errors import ConfigError
from saetools.harvest import harvest
from saetools.harvest.batching import Group
from saetools.harvest.distributed import shard_path, share
from saetools.harvest.outliers import n_dropped
from saetools.models.base import TextEncoder
from saetools.processes import World, world
from saetools.store import ActivationStore

SCRIPT = """
import os, signal, sys
import torch
torch.set_num_threads(1)
import saetools as st
import saetools.harvest.harvester as harvester
from saetools.store import StoreWriter

harvester._GROUP_TOKENS = 400
texts = [f"document {i} speaks of " + "birds and stones " * (i % 7 + 1) for i in range(90)]
model = st.load_model("tiny-encoder")


def run(out, **settings):
    return st.harvest(model, texts, hook_name=["resid_post.1", "mlp_out.0"], out=out, **settings)


def fork_two(out, *, die_at=None, **settings):
    # Forked, because importing torch takes longer than the harvest.
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
            if die_at is not None and rank == 1:
                kill_at_commit(die_at)
            try:
                run(out, **settings).close()
                os._exit(0)
            except BaseException as error:
                print(rank, repr(error), flush=True)
                os._exit(1)
        children.append(child)
    if die_at is None:
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    else:  # the launcher ends the other processes when one dies
        assert os.WTERMSIG(os.waitpid(children[1], 0)[1]) == signal.SIGKILL
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def kill_at_commit(number):
    commit, commits = StoreWriter.commit, 0

    def dying(*args, **kwargs):
        nonlocal commits
        commits += 1
        if commits == number:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(*args, **kwargs)

    StoreWriter.commit = dying


folder = sys.argv[1]
run(f"{folder}/one.h5").close()
run(f"{folder}/one_cut.h5", n_tokens=2500).close()
fork_two(f"{folder}/two.h5")
fork_two(f"{folder}/two.h5")
fork_two(f"{folder}/killed.h5", die_at=3)
assert not os.path.exists(f"{folder}/killed.h5")
fork_two(f"{folder}/killed.h5")
fork_two(f"{folder}/two_cut.h5", n_tokens=2500)
run(f"{folder}/one_kept.h5", max_norm_multiple=1.05).close()
fork_two(f"{folder}/two_kept.h5", max_norm_multiple=1.05)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Harvests by one process and by two, uninterrupted, killed, and cut at n_tokens."""
    folder = tmp_path_factory.mktemp("many")
    script = folder / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.mark.parametrize(
    ("many", "one"),
    [("two", "one"), ("killed", "one"), ("two_cut", "one_cut"), ("two_kept", "one_kept")],
)
def test_the_merged_store_holds_what_one_process_writes(many: str, one: str, folder: Path) -> None:
    with (
        ActivationStore.open(folder / f"{many}.h5") as merged,
        ActivationStore.open(folder / f"{one}.h5") as single,
    ):
        assert merged.complete
        assert (merged.n_tokens, merged.n_docs) == (single.n_tokens, single.n_docs)
        assert merged.hook_names == single.hook_names
        for name in single.hook_names:
            rows = [s.rows(0, s.n_tokens, hook_name=name) for s in (merged, single)]
            assert torch.equal(*rows)
            left, right = (s.moments(name) for s in (merged, single))
            np.testing.assert_allclose(left.mean, right.mean, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(left.deviation, right.deviation, rtol=1e-9)
        for a, b in zip(merged.columns(0, 10**9), single.columns(0, 10**9), strict=True):
            assert np.array_equal(a, b)
        assert np.array_equal(merged.held_out, single.held_out)
        batches = [torch.cat(list(s.batches(256, seed=0))).sum() for s in (merged, single)]
        assert torch.isfinite(batches[0])
        assert merged.n_batches(256) == single.n_batches(256)


def test_the_merged_manifest_is_that_of_one_process_but_for_its_shards(folder: Path) -> None:
    for many, one in [("two", "one"), ("two_cut", "one_cut"), ("two_kept", "one_kept")]:
        with (
            ActivationStore.open(folder / f"{many}.h5") as merged,
            ActivationStore.open(folder / f"{one}.h5") as single,
        ):
            manifest = dict(merged.manifest)
            shards, lost = manifest.pop("shards"), manifest.pop("precision_error")
            expected = dict(single.manifest)
            assert lost == pytest.approx(expected.pop("precision_error"), rel=1e-9)
            assert all(0 < share < 1e-3 for share in lost.values())
            assert manifest == expected
            assert sum(shard["n_tokens"] for shard in shards) == single.n_tokens
            assert n_dropped(merged.path) == n_dropped(single.path)
    assert n_dropped(folder / "two_kept.h5") > 0


def test_shards_lie_beside_the_store_and_keep_the_split_of_the_whole(folder: Path) -> None:
    away = held_out(90, fraction=0.1, seed=0)
    first = 0
    for rank in range(2):
        with ActivationStore.open(shard_path(folder / "two.h5", World(rank, 2))) as shard:
            assert 0 < shard.n_docs < 90
            assert np.array_equal(shard.held_out, away[first : first + shard.n_docs])
            first += shard.n_docs
    assert first == 90


@pytest.mark.parametrize(("n_groups", "size"), [(10, 3), (2, 4), (0, 2), (7, 1)])
def test_shares_are_neighbours_cover_all_and_differ_by_one_at_most(
    n_groups: int, size: int
) -> None:
    groups = [Group(i, i + 1) for i in range(n_groups)]
    shares = [share(groups, World(rank, size)) for rank in range(size)]
    assert [group for mine in shares for group in mine] == groups
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_ranks_that_do_not_fit_are_refused_with_the_way_out(
    tiny_encoder: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert world() == World(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        world()
    monkeypatch.setenv("RANK", "1")
    assert world() == World(1, 2)
    with pytest.raises(ConfigError, match="MASTER_ADDR and MASTER_PORT"):
        harvest(tiny_encoder, ["a"], hook_name="resid_post.1", out=tmp_path / "a.h5")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_number_of_rows_that_no_process_can_count_is_refused_before_they_meet(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    settings = {"hook_name": "resid_post.1", "out": tmp_path / "a.h5", "max_norm_multiple": 10.0}
    with pytest.raises(ConfigError, match=r"n_tokens=50 .*max_norm_multiple=10 .*one process"):
        harvest(tiny_encoder, ["a text"] * 20, n_tokens=50, **settings)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("WORLD_SIZE")
    with harvest(tiny_encoder, ["a text"] * 20, n_tokens=50, **settings) as alone:
        assert alone.n_tokens >= 50
