"""An index survives SIGKILL, Ctrl-C and a full disk, and ends in the same bytes."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from saetools.analysis import LatentIndex, build
from saetools.analysis.build import work_folder
from saetools.analysis.codes import CodeWriter
from saetools.analysis.work import WorkFolder
from saetools.errors import StoreError

from .test_build import count_calls

SCRIPT = Path(__file__).with_name("killed_indexes.py")


def contents(path):
    """Bytes of every dataset and all attributes, by name."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update(
                {
                    name: (
                        item[()].tobytes() if isinstance(item, h5py.Dataset) else None,
                        {key: repr(value) for key, value in item.attrs.items()},
                    )
                }
            )
        )
        found["/"] = {key: repr(value) for key, value in file.attrs.items()}
    return found


@pytest.mark.parametrize("n_kills", [24, pytest.param(150, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment_goes_on_to_the_same_bytes(n_kills, tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(n_kills), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)
    assert len(left) == n_kills
    assert len(set(left)) >= 5, "the kills came at many different moments"
    wanted = contents(tmp_path / "whole.h5")
    finished = sorted(tmp_path.glob("[0-9]*.h5"))
    assert finished
    for path in finished:
        assert contents(path) == wanted, path
        assert not work_folder(path).exists()


def test_pieces_that_a_kill_left_beside_a_finished_index_are_cleared_away(known, tmp_path):
    out = tmp_path / "index.h5"
    known.index(out=out)
    work_folder(out).mkdir()
    (work_folder(out) / "codes.json").write_text("{}")
    known.index(out=out)
    assert not work_folder(out).exists()


def test_what_is_finished_is_not_made_again(known, tmp_path, monkeypatch):
    monkeypatch.setattr(build.CodeLists.parts, "__kwdefaults__", {"limit": 400})
    whole = known.index(out=tmp_path / "whole.h5")
    out = tmp_path / "parts.h5"
    calls = count_calls(monkeypatch, build, "find")
    find = build.find

    def stopped(*args):
        if len(calls) == 3:
            raise KeyboardInterrupt
        return find(*args)

    with monkeypatch.context() as patch:
        patch.setattr(build, "find", stopped)
        with pytest.raises(KeyboardInterrupt):
            known.index(out=out)
    assert not out.exists()
    encoded = count_calls(monkeypatch, CodeWriter, "append")
    n_before = len(calls)
    assert known.index(out=out)[5] == whole[5]
    assert not encoded
    n_parts = len(calls)
    assert n_parts > n_before == 3
    assert contents(out) == contents(tmp_path / "whole.h5")
    known.index(out=out)  # it is there
    assert len(calls) == n_parts


def test_an_index_of_other_settings_begins_anew(known, tmp_path):
    out = tmp_path / "i.h5"
    first = known.index(out=out, n_examples=3)
    second = known.index(out=out, n_examples=5)
    assert len(second[5].examples) > len(first[5].examples)
    folder = WorkFolder(work_folder(out), "something else").path
    (folder / "rows.h5").write_text("of another index")
    known.index(out=out, n_examples=4)
    assert not folder.exists()


@pytest.mark.parametrize("where", ["append", "piece", "save"])
def test_a_full_disk_says_so_and_leaves_the_old_index(known, tmp_path, monkeypatch, where):
    out = tmp_path / "i.h5"
    known.index(out=out, n_examples=3)
    before = out.read_bytes()
    owner = {"append": CodeWriter, "piece": WorkFolder, "save": LatentIndex}[where]

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(owner, where, full)
        with pytest.raises(StoreError, match=r"No space left.*bytes free.*goes on from there"):
            known.index(out=out, n_examples=4)
    assert out.read_bytes() == before
    assert len(known.index(out=out, n_examples=4)[5].examples) == 4
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("i.h5")] == ["i.h5"]
