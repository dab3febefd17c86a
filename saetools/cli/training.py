"""What the settings of a run say about training, and what training left behind."""

import json
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from saetools.cli.run import RunFolder

if TYPE_CHECKING:  # types only: `--help` must not pay for torch (2.4 s)
    from saetools.sae import SAE
    from saetools.store import ActivationStore
    from saetools.train import TrainConfig

__all__ = ["books", "build", "figures_of", "is_first", "settings"]


def is_first() -> bool:
    """Whether this is the process that speaks and writes, out of those that torchrun started."""
    from saetools.processes import world  # heavy: torch

    return world().rank == 0


def books(run: RunFolder, stage: str) -> AbstractContextManager[None]:
    """The stage of a run, whose books the first process keeps."""
    return run.stage(stage) if is_first() else nullcontext()


def build(run: RunFolder, store: "ActivationStore") -> "SAE":
    """The untrained SAE that a run asks for, in host memory."""
    from saetools.sae import build_sae  # heavy: torch

    block, seed = run.config.sae, settings(run).init_seed
    fields = {"type": block.type, "d_in": store.d_in, **block.fields}
    seed = run.config.seed if seed is None else seed
    return build_sae(**fields, seed=seed)


def settings(run: RunFolder) -> "TrainConfig":
    """How a run trains."""
    from saetools.train import TrainConfig  # heavy: torch

    return TrainConfig(**run.config.train, seed=run.config.seed)


def figures_of(run: RunFolder) -> dict[str, Any]:
    """The last figures of training, as the command shows them."""
    rows = (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(rows[-1]) if rows else {}
    shown = ("n_tokens", "fvu", "l0", "dead_fraction", "tokens_per_second")
    return {name: last[name] for name in shown if name in last}
