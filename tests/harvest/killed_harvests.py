"""Harvest again and again in forked children and kill each of them with SIGKILL.

    python killed_harvests.py FOLDER N_KILLS SEED [FILTER]

Writes whole.h5, which nothing interrupted, and 0.h5, 1.h5, ..., each of which was killed, resumed,
killed again and so on until it was complete. Prints the number of tokens committed at each kill.
Half of the kills come at any moment of a harvest, half within a commit.
"""

import json
import random
import sys
import time
from pathlib import Path

import torch

import saetools as st
import saetools.harvest.harvester as harvester
from saetools.models.base import SubjectModel
from saetools.store import ActivationStore, StoreWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script, not a test
from killing import Tell, kill_again_and_again, told_first

TEXTS = [f"document {i} speaks of " + "birds and stones " * (i % 7 + 1) for i in range(200)]


FILTER = sys.argv[4] if len(sys.argv) > 4 else None


def harvest(model: SubjectModel, out: Path) -> None:
    hooks = ["resid_post.1", "mlp_out.0"]
    st.harvest(model, TEXTS, hook_name=hooks, out=out, dtype="bfloat16", filter=FILTER).close()


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

    def work(run: int, tell: Tell) -> None:
        StoreWriter.commit = told_first(StoreWriter.commit, tell)  # type: ignore[method-assign]
        harvest(model, folder / f"{run}.h5")

    n_tokens, run = kill_again_and_again(
        work,
        lambda run: committed(folder / f"{run}.h5"),
        n_kills=n_kills,
        rng=rng,
        seconds=seconds,
        most_events=5,
        after=0.006,
    )
    harvest(model, folder / f"{run}.h5")
    sys.stdout.write(json.dumps(n_tokens))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
