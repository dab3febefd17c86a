"""A harvest survives SIGKILL at any moment, and ends at a commit on Ctrl-C and SIGTERM."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from saetools.harvest import harvest
from saetools.models.base import TextEncoder
from saetools.store import ActivationStore, StoreWriter

SCRIPT = Path(__file__).with_name("killed_harvests.py")
TEXTS = [f"document {i} speaks of " + "birds and stones " * (i % 7 + 1) for i in range(60)]
HOOK = "blocks.1.hook_resid_post"

SameStore = Callable[[Path, Path], bool]


@pytest.mark.parametrize("n_kills", [24, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize("filter", [None, "gzip"])
def test_kill_9_at_any_moment_resumes_to_the_same_bytes(
    filter: str | None, n_kills: int, tmp_path: Path, same_store: SameStore
) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(n_kills), "0"]
    command += [filter] if filter else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    n_tokens = json.loads(done.stdout)
    assert len(n_tokens) == n_kills
    assert len(set(n_tokens)) >= 5, "the kills came at many different moments"
    finished = sorted(tmp_path.glob("[0-9]*.h5"))
    assert finished
    for path in finished:
        assert same_store(tmp_path / "whole.h5", path), path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["reading", "committing"])
def test_a_signal_ends_at_a_commit_and_the_harvest_goes_on_from_there(
    place: str,
    number: int,
    tiny_encoder: TextEncoder,
    tmp_path: Path,
    same_store: SameStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("saetools.harvest.harvester._GROUP_TOKENS", 120)
    harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "whole.h5").close()
    commits, commit, activations = 0, StoreWriter.commit, tiny_encoder.activations
    before = signal.getsignal(number)

    def counting(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal commits
        commits += 1
        if place == "committing" and commits == 3:
            os.kill(os.getpid(), number)
        commit(*args, **kwargs)

    def reading(*args, **kwargs):  # type: ignore[no-untyped-def]
        if place == "reading" and commits == 3:
            os.kill(os.getpid(), number)
        return activations(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "commit", counting)
        patch.setattr(tiny_encoder, "activations", reading)
        with pytest.raises(KeyboardInterrupt, match=r"stopped after [\d,]+ tokens.* run it again"):
            harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "parts.h5")
    assert commits == 3
    assert signal.getsignal(number) is before, "whoever handled it before handles it again"
    with ActivationStore.open(tmp_path / "parts.h5", allow_incomplete=True) as partial:
        assert 0 < partial.n_docs < len(TEXTS)
    harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "parts.h5").close()
    assert same_store(tmp_path / "whole.h5", tmp_path / "parts.h5")
