"""Train again and again in forked children and kill each of them with SIGKILL.

    python killed_trainings.py STORE FOLDER N_KILLS SEED

Writes whole/, which nothing interrupted, and 0/, 1/, ..., each of which was killed, resumed, killed
again and so on until it was complete. Prints the step that each kill left behind. Half of the kills
come at any moment, half while a checkpoint is written. Two SAEs are trained together, with all that
a state can hold: dead latents, annealing of k, a running mean of the weights, 16-bit moments.
"""

import json
import random
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open

import saetools as st
import saetools.train.member as member
from saetools.train import train_many
from saetools.train.config import AdamConfig, AnnealConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script, not a test
from killing import Tell, kill_again_and_again, told_first

CONFIG = st.TrainConfig(
    n_tokens=30_000,
    batch_tokens=500,
    checkpoint_tokens=1000,
    log_tokens=1000,
    dead_after_tokens=1500,
    adam=AdamConfig(ema_decay=0.9, moments="bfloat16", max_grad_norm=1.0),
    anneal=AnnealConfig(k_from=8, k_fraction=0.5),
)


def train(store: st.ActivationStore, out: Path) -> None:
    saes = {
        name: st.build_sae(name, d_in=16, n_latents=96, k=3, seed=5)
        for name in ("topk", "matryoshka")
    }
    train_many(saes, store, CONFIG, out=out)


def steps_kept(out: Path) -> int:
    """Steps of the checkpoint that a kill left, 0 if none."""
    path = out / "topk" / "checkpoint.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        return int(json.loads(file.metadata()["header"])["n_steps_done"])


def main(store: Path, folder: Path, n_kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    rng = random.Random(seed)
    with st.ActivationStore.open(store) as opened:
        train(opened, folder / "warm-up")
        begun = time.monotonic()
        train(opened, folder / "whole")
        seconds = time.monotonic() - begun

        def work(run: int, tell: Tell) -> None:
            member.save_checkpoint = told_first(member.save_checkpoint, tell)
            with st.ActivationStore.open(store) as own:
                train(own, folder / str(run))

        kept, run = kill_again_and_again(
            work,
            lambda run: steps_kept(folder / str(run)),
            n_kills=n_kills,
            rng=rng,
            seconds=seconds,
            most_events=11,
            after=0.003,
        )
        train(opened, folder / str(run))
    sys.stdout.write(json.dumps(kept))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
