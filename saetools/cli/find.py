"""Find the run that a command is about, and check all of its settings."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # a type only: `--help` must not pay for pydantic (0.2 s)
    from saetools.config import Schema

__all__ = ["open_run", "schemas"]


def open_run(
    run: str | Path,
    overrides: Sequence[str] | None = None,
    *,
    out: Path | None = None,
    device: str | None = None,
    seed: int | None = None,
) -> RunFolder:
    """Find a run by a YAML file, its folder, or a folder inside that, and check all its settings.

    Raises:
        ConfigError: there is no such run, or a setting is wrong; every problem in one message.
    """
    from saetools.config import load_config  # 0.2 s: pydantic

    file, folder = _locate(Path(run))
    out = out or folder
    flags = {"out": None if out is None else str(out), "subject.device": device, "seed": seed}
    changed = [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    config = load_config(file, *(overrides or ()), *changed, schemas=schemas())
    inside = Path(run)
    is_sae = inside.is_dir() and (inside / "config.json").is_file()
    return RunFolder(Path(config.out), config, sae_folder=inside if is_sae else None)


def schemas() -> "dict[str, Schema]":
    """How the plug-ins check their own blocks of a run."""
    # heavy: torch
    from saetools.config import Schema
    from saetools.corpus import CORPORA
    from saetools.naming import NAMERS
    from saetools.sae import ARCHS
    from saetools.train import TrainConfig

    return {
        "data": Schema(lambda kind: CORPORA.get(kind).Config),
        "sae": Schema(lambda kind: ARCHS.get(kind).Config, later={"d_in": 1024}),
        "train": Schema(lambda _: TrainConfig, later={"seed": 0}),
        "naming": Schema(lambda kind: NAMERS.get(kind).Config),
    }


def _locate(run: Path) -> tuple[Path, Path | None]:
    """The YAML file to read, and the run folder if one was named."""
    if run.is_file():
        return run, run.parent if (run.parent / "run.json").is_file() else None
    if run.is_dir():
        for folder in (run, *run.parents)[:4]:
            if (folder / "config.yaml").is_file():
                return folder / "config.yaml", folder
        raise ConfigError(
            f"{run} is no run folder: neither it nor a folder above it holds a config.yaml; "
            "name a YAML file, or a folder that `saetools harvest` made"
        )
    near = (
        sorted(str(path) for path in run.parent.glob("*.yaml"))[:5] if run.parent.is_dir() else []
    )
    beside = f" (there are {', '.join(near)})" if near else ""
    raise ConfigError(
        f"there is no run at {run}: no such file or folder{beside}; name a YAML file such as "
        "configs/tiny/tiny_topk.yaml, or a run folder"
    )
