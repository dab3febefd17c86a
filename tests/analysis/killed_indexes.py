"""Index again and again in forked children and kill each of them with SIGKILL.

    python killed_indexes.py FOLDER N_KILLS SEED

Writes whole.h5, which nothing interrupted, and 0.h5, 1.h5, ..., each of which was killed, gone on
with, killed again and so on until it was complete. Prints the number of pieces that each kill left.
Half of the kills come at any moment, half soon after a commit of codes or a finished piece.
"""

import json
import random
import sys
import time
from pathlib import Path

import torch

import saetools as st
from saetools.analysis import build, codes
from saetools.analysis.build import work_folder
from saetools.analysis.codes import CodeWriter
from saetools.analysis.work import WorkFolder
from saetools.models.base import SubjectModel
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script, not a test
from killing import Tell, kill_again_and_again, told_first

HOOK = "resid_post.1"
TEXTS = [f"document {i} speaks of " + "birds and stones " * (i % 7 + 1) for i in range(120)]


def index(sae: SAE, store: ActivationStore, model: SubjectModel, out: Path) -> None:
    st.index_latents(sae, store, model=model, out=out)


def pieces_left(out: Path) -> int:
    folder = work_folder(out)
    mark = folder / "codes.json"
    n_rows = json.loads(mark.read_text())["rows"] if mark.exists() else 0
    return n_rows // build._COMMIT_TOKENS + len(list(folder.glob("*.h5")))


def main(folder: Path, n_kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    build._BATCH_TOKENS, build._COMMIT_TOKENS = 50, 200
    codes.CodeLists.parts.__kwdefaults__["limit"] = 600
    rng = random.Random(seed)
    model = st.load_model("tiny")
    st.harvest(model, TEXTS, hook_name=HOOK, out=folder / "acts.h5", held_out_fraction=0.4).close()
    store = ActivationStore.open(folder / "acts.h5")
    sae = build_sae("topk", d_in=store.d_in, n_latents=48, k=4, meta={"hook_name": HOOK})
    index(sae, store, model, folder / "warm-up.h5")
    begun = time.monotonic()
    index(sae, store, model, folder / "whole.h5")
    seconds = time.monotonic() - begun
    store.close()

    def work(run: int, tell: Tell) -> None:
        CodeWriter.commit = told_first(CodeWriter.commit, tell)  # type: ignore[method-assign]
        WorkFolder.piece = told_first(WorkFolder.piece, tell)  # type: ignore[method-assign]
        with ActivationStore.open(folder / "acts.h5") as mine:
            index(sae, mine, model, folder / f"{run}.h5")

    left, run = kill_again_and_again(
        work,
        lambda run: pieces_left(folder / f"{run}.h5"),
        n_kills=n_kills,
        rng=rng,
        seconds=seconds,
        most_events=12,
        after=0.01,
    )
    with ActivationStore.open(folder / "acts.h5") as mine:
        index(sae, mine, model, folder / f"{run}.h5")
    sys.stdout.write(json.dumps(left))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
