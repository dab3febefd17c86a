"""Train again and again in forked children and kill each of them with SIGKILL.

    python killed_trainings.py STORE FOLDER N_KILLS SEED

Writes whole/, which nothing interrupted, and 0/, 1/, ..., each of which was killed, resumed, killed
again and so on until it was complete. Prints the step that each kill left behind. Half of the kills
come at any moment, half while a checkpoint is written. Two SAEs are trained together, with all that
a state can hold: dead latents, annealing of k, a running mean of the weights, 16-bit moments.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open

import saetools as st
import saetools.train.member as member
from saetools.train import train_many
from saetools.train.config import AdamConfig, AnnealConfig

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


def killed(store: Path, out: Path, rng: random.Random, *, seconds: float) -> bool:
    """Train in a child and kill it; False if it was done before."""
    saves_in, saves_out = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(saves_in)
        tell_of_checkpoints(saves_out)
        with st.ActivationStore.open(store) as opened:
            train(opened, out)
        os._exit(0)
    os.close(saves_out)
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, seconds))
    else:
        for _ in range(rng.randrange(1, 12)):
            os.read(saves_in, 1)
        time.sleep(rng.uniform(0, 0.003))
    os.kill(child, signal.SIGKILL)
    os.close(saves_in)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def tell_of_checkpoints(pipe: int) -> None:
    """Write a byte when a checkpoint begins."""
    save = member.save_checkpoint

    def telling(*args, **kwargs):  # type: ignore[no-untyped-def]
        os.write(pipe, b".")
        save(*args, **kwargs)

    member.save_checkpoint = telling


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
        kept: list[int] = []
        run = 0
        while len(kept) < n_kills:
            if killed(store, folder / str(run), rng, seconds=seconds):
                kept.append(steps_kept(folder / str(run)))
            else:
                run += 1
        train(opened, folder / str(run))
    sys.stdout.write(json.dumps(kept))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
