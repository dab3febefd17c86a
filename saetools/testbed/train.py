"""Training a planted model: plain PyTorch, one pass over texts that are made for it.

The run is a function of recipe and variant: which rows a step reads depends on its number alone. It
keeps a checkpoint, so that a run that was stopped goes on to the same bytes.
"""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from saetools.corpus.planted import World
from saetools.errors import FormatError
from saetools.interrupt import deferred_interrupt
from saetools.progress import Task, task
from saetools.repro import fingerprint
from saetools.testbed.language_model import new_model
from saetools.testbed.optimizer import PlantedOptimizer
from saetools.testbed.recipe import Recipe, Variant
from saetools.testbed.rows import training_rows
from saetools.testbed.tokenizer import train_tokenizer

__all__ = ["Trained", "train_model"]

_WARM_UP_FRACTION = 0.02
_MAX_NORM = 1.0
_LOG_EVERY = 20
_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Trained:
    """What a training run gives.

    Args:
        model: the trained Llama, float32.
        tokenizer: its tokenizer.
        curve: (step, tokens read, learning rate, training loss in nats a token), every 20 steps;
            the loss is the mean over these steps.
        n_tokens: tokens that were read.
        seconds: time of the steps, that of earlier sittings included.
    """

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    curve: tuple[tuple[int, int, float, float], ...]
    n_tokens: int
    seconds: float


def train_model(
    recipe: Recipe,
    variant: Variant,
    *,
    folder: Path,
    device: torch.device | str = "cpu",
    resume: bool = True,
    save_every: int = 500,
) -> Trained:
    """Train one model; what is needed to go on after a stop is kept in `folder`.

    Args:
        recipe: the settings.
        variant: the seed, and whether forget entities are read about.
        folder: where the checkpoint lies; made if it is not there.
        device: where to train.
        resume: go on from the checkpoint if there is one.
        save_every: steps between checkpoints.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the checkpoint is written.
        FormatError: the checkpoint is of other settings.
    """
    world = World.build(recipe.world_seed, recipe.n_entities)
    tokenizer = train_tokenizer(world, ctx_len=recipe.ctx_len)
    with task("texts", total=recipe.n_docs, unit="documents") as shown:
        rows = training_rows(world, tokenizer, recipe, variant, task=shown)
    run = _Run(recipe, variant, rows, new_model(recipe, tokenizer, seed=variant.seed).to(device))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _CHECKPOINT
    if resume and path.is_file():
        run.load(path)
    with (
        deferred_interrupt() as stop,
        task("training", total=run.n_steps, unit="steps") as shown,
    ):
        shown.advance(run.step)
        while run.step < run.n_steps:
            run.advance(shown)
            if stop() or (run.step % save_every == 0 and run.step < run.n_steps):
                run.save(path)
            if stop():
                raise KeyboardInterrupt(
                    f"stopped after step {run.step:,} of {run.n_steps:,}; the same command goes on"
                )
    run.save(path)
    run.model.eval().set_attn_implementation("sdpa")
    return Trained(run.model, tokenizer, tuple(run.curve), run.n_tokens, run.seconds)


class _Run:
    """The state of a training run; it changes in `advance` and `load`."""

    def __init__(
        self,
        recipe: Recipe,
        variant: Variant,
        rows: Int[Tensor, "n_rows ctx_len"],
        model: LlamaForCausalLM,
    ) -> None:
        self.recipe = recipe
        self.rows = rows
        self.model = model.train()
        # On a CPU, fused attention in bfloat16 takes as long as all the rest of a step.
        self.model.set_attn_implementation("eager")
        self.n_steps = len(rows) // recipe.batch_rows
        self.step = 0
        self.seconds = 0.0
        self.curve: list[tuple[int, int, float, float]] = []
        self._recent: list[float] = []
        self._stamp = fingerprint([recipe.model_dump(), variant.model_dump()])
        self._optimizer = PlantedOptimizer(model, weight_decay=recipe.weight_decay)

    @property
    def n_tokens(self) -> int:
        """Tokens read so far."""
        return self.step * self.recipe.batch_rows * self.recipe.ctx_len

    def advance(self, shown: Task) -> None:
        """Take one step."""
        begun = time.perf_counter()
        lr = self.recipe.lr * _schedule(self.step, self.n_steps)
        first = self.step * self.recipe.batch_rows
        ids = self.rows[first : first + self.recipe.batch_rows].long()
        loss = self._loss(ids.to(self.model.device))
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), _MAX_NORM)
        self._optimizer.step(lr)
        self.step += 1
        self._recent.append(float(loss.detach()))
        self.seconds += time.perf_counter() - begun
        if self.step % _LOG_EVERY == 0 or self.step == self.n_steps:
            mean = sum(self._recent) / len(self._recent)
            self.curve.append((self.step, self.n_tokens, lr, mean))
            self._recent = []
            shown.note(loss=mean, tokens_per_s=self.n_tokens / self.seconds)
        shown.advance()

    def save(self, path: Path) -> None:
        """Write the checkpoint as a whole or not at all."""
        state = {
            "stamp": self._stamp,
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
            "recent": self._recent,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        scratch = path.with_name(path.name + ".partial")
        torch.save(state, scratch)
        os.replace(scratch, path)

    def load(self, path: Path) -> None:
        """Go back to where the checkpoint was written."""
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        if state["stamp"] != self._stamp:
            raise FormatError(
                f"'{path}' was written by a run of other settings; start over with --no-resume, or "
                "give another folder"
            )
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.curve = [tuple(row) for row in state["curve"]]
        self._recent = state["recent"]

    def _loss(self, ids: Int[Tensor, "batch pos"]) -> Tensor:
        # Products in bfloat16 take half the time on a CPU that has them; weights stay float32.
        with torch.autocast(
            ids.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"
        ):
            logits = self.model(input_ids=ids, use_cache=False).logits
        return nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten()
        )


def _schedule(step: int, n_steps: int) -> float:
    """Share of the peak learning rate: up in a line, down to nothing in a cosine."""
    n_warm = max(1, round(_WARM_UP_FRACTION * n_steps))
    if step < n_warm:
        return (step + 1) / n_warm
    done = (step - n_warm) / max(1, n_steps - n_warm)
    return 0.5 * (1 + math.cos(math.pi * done))
