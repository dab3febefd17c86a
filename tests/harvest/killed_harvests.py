"""Harvest again and again in forked children and kill each of them with SIGKILL.

    python killed_harvests.py FOLDER N_KILLS SEED [FILTER]

Writes whole.h5, which nothing interrupted, and 0.h5, 1.h5, ..., each of which was killed, resumed,
killed again and so on until it was complete. Prints the number of tokens committed at each kill.
Half of the kills come at any moment of a harvest, half within a commit. Children are forked from
one process because importing torch would take longer than a harvest.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import saetools as st
import saetools.harvest.harvester as harvester
from saetools.models.base import SubjectModel
from saetools.store import ActivationStore, StoreWriter

TEXTS = [f"document {i} speaks of " + "birds and stones " * (i % 7 + 1) for i in range(200)]


FILTER = sys.argv[4] if len(sys.argv) > 4 else None


def harvest(model: SubjectModel, out: Path) -> None:
    hooks = ["resid_post.1", "mlp_out.0"]
    st.harvest(model, TEXTS, hook_name=hooks, out=out, dtype="bfloat16", filter=FILTER).close()


def killed(model: SubjectModel, out: Path, rng: random.Random, *, seconds: float) -> bool:
    """Harvest in a child and kill it; False if it was done before."""
    commits_in, commits_out = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(commits_in)
        tell_of_commits(commits_out)
        harvest(model, out)
        os._exit(0)
    os.close(commits_out)
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, seconds))
    else:
        for _ in range(rng.randrange(1, 6)):
            os.read(commits_in, 1)
        time.sleep(rng.uniform(0, 0.006))
    os.kill(child, signal.SIGKILL)
    os.close(commits_in)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def tell_of_commits(pipe: int) -> None:
    """Write a byte when a commit begins."""
    commit = StoreWriter.commit

    def telling(*args, **kwargs):  # type: ignore[no-untyped-def]
        os.write(pipe, b".")
        commit(*args, **kwargs)

    StoreWriter.commit = telling  # type: ignore[method-assign]


def committed(path: Path) -> int:
    if not path.exists():
        return 0
    with ActivationStore.open(path, allow_incomplete=True) as store:
        return store.n_tokens


def main(folder: Path, n_kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    harvester._GROUP_TOKENS = 120
    rng = random.Random(seed)
    model = st.load_model("tiny-encoder")
    harvest(model, folder / "warm-up.h5")
    begun = time.monotonic()
    harvest(model, folder / "whole.h5")
    seconds = time.monotonic() - begun
    n_tokens: list[int] = []
    file = 0
    while len(n_tokens) < n_kills:
        if killed(model, folder / f"{file}.h5", rng, seconds=seconds):
            n_tokens.append(committed(folder / f"{file}.h5"))
        else:
            file += 1
    harvest(model, folder / f"{file}.h5")
    sys.stdout.write(json.dumps(n_tokens))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
