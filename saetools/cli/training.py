"""What the settings of a run say about training, and what training left behind."""

import json
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from saetools.cli.run import RunFolder

if TYPE_CHECKING:  # types only: `--help` must not pay for torch (2.4 s)
    from saetools.sae import SAE
    from saetools.store import ActivationStore
    from saetools.train import HealthReport, TrainConfig

__all__ = ["books", "build", "figures_of", "health_of", "is_first", "settings"]


def is_first() -> bool:
    """Whether this is the process that speaks and writes, out of those that torchrun started."""
    from saetools.processes import world  # heavy: torch

    return world().rank == 0


def books(run: RunFolder, stage: str) -> AbstractContextManager[None]:
    """The stage of a run, whose books the first process keeps."""
    return run.stage(stage) if is_first() else nullcontext()


def build(run: RunFolder, store: "ActivationStore") -> "SAE":
    """The untrained SAE that a run asks for, or this process's part, in host memory."""
    from saetools.processes import world  # heavy: torch
    from saetools.sae import build_sae

    block, seed = run.config.sae, settings(run).init_seed
    fields = {"type": block.type, "d_in": store.d_in, **block.fields}
    target = fields.get("target_hook_name")
    if target is not None and fields.get("d_out") is None:
        fields["d_out"] = store.width(target)
    seed = run.config.seed if seed is None else seed
    part = world() if settings(run).parallel == "latents" else (0, 1)
    return build_sae(**fields, seed=seed, part=part)


def settings(run: RunFolder) -> "TrainConfig":
    """How a run trains."""
    from saetools.train import TrainConfig  # heavy: torch

    return TrainConfig(**run.config.train, seed=run.config.seed)


def figures_of(run: RunFolder) -> dict[str, Any]:
    """How long a run was trained, and how fast, at its last row of figures."""
    rows = (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(rows[-1]) if rows else {}
    return {name: last[name] for name in ("n_tokens", "tokens_per_second") if name in last}


def health_of(
    run: RunFolder, sae: "SAE", store: "ActivationStore", *, made_before: bool
) -> "HealthReport":
    """The health of a run's SAE, measured and stored; if it was `made_before`, what is stored."""
    from saetools.train import HealthReport, health_report  # heavy: torch

    path = run.path / "health.json"
    if made_before and path.exists():
        return HealthReport.load(path)
    report = health_report(sae, store, seed=run.config.seed)
    report.save(path)
    return report
