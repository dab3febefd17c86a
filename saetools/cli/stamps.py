"""Which settings made what is in a run folder: `run.json`, one entry a stage.

A stage remembers the settings that shaped its result. A later command with other settings is
refused, since its result would not belong to what lies there. This file knows settings and stages,
not what a stage does.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saetools.errors import ConfigError, FormatError

if TYPE_CHECKING:  # a type only: `--help` must not pay for pydantic (0.2 s)
    from saetools.config import RunConfig

__all__ = ["FORMAT", "STAGES", "Stage", "conflicts", "read_stamps", "settings_of"]

FORMAT = "saetools-run/1"


@dataclass(frozen=True)
class Stage:
    """A step of a run.

    Args:
        blocks: settings that shape the result (on which devices is no such setting).
        needs: stages whose results it reads, all of them.
        uses: stages whose results it reads if they are there.
        product: file or folder that it makes, inside the run folder.
        keeps: True if the result is kept when the settings change (and the command refused);
            False if the result is cheap and simply made anew.
    """

    blocks: tuple[str, ...]
    needs: tuple[str, ...]
    product: str
    keeps: bool = False
    uses: tuple[str, ...] = ()


STAGES = {
    "harvest": Stage(("seed", "subject", "data", "harvest"), (), "acts.h5", keeps=True),
    "train": Stage(("seed", "sae", "train"), ("harvest",), "sae", keeps=True),
    "evaluate": Stage(("evaluate",), ("harvest", "train"), "evaluation.json"),
    "index": Stage(("index",), ("harvest", "train"), "index.h5"),
    "name": Stage(("naming",), ("harvest", "train", "index"), "names.csv"),
    "score": Stage((), ("harvest", "train", "index", "name"), "scores.json"),
    "ablate": Stage(("concept",), ("harvest", "train", "index"), "ablate.json"),
    "erase": Stage((), ("harvest", "train"), "eraser"),
    "recover": Stage((), ("harvest", "train"), "recovery.json", uses=("name",)),
    "names_truth": Stage((), ("harvest", "train", "index"), "name_truth.json", uses=("name",)),
    "forget": Stage((), ("harvest", "train"), "forgetting.json"),
    "steer": Stage((), ("harvest", "train"), "steer.json"),
    "steer_sweep": Stage((), ("harvest", "train"), "steer_sweep.json"),
    "ablate_latents": Stage((), ("harvest", "train"), "ablate_latents.json"),
    "explore": Stage(
        (),
        ("harvest", "train", "index"),
        "report.html",
        uses=("evaluate", "name", "score", "ablate"),
    ),
}


_NO_MATTER = (
    "subject.device",
    "train.log_tokens",
    "train.log_to",
    "train.checkpoint_tokens",
    "train.parallel",
)
"""Settings that shape no result."""


def settings_of(config: "RunConfig", stage: str) -> dict[str, Any]:
    """The settings that shape a stage's result, as flat dotted keys."""
    blocks = STAGES[stage].blocks
    found = dict(_flat(config.model_dump(mode="json", include=set(blocks))))
    for name in _NO_MATTER:
        found.pop(name, None)
    return found


def read_stamps(folder: Path) -> dict[str, dict[str, Any]]:
    """The stages that have begun in a run folder; empty for a new one.

    Raises:
        FormatError: `run.json` is damaged or of another version.
    """
    path = folder / "run.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path} is not JSON ({error}); delete the folder or that file"
        ) from error
    written = found.get("format") if isinstance(found, dict) else None
    if written != FORMAT:
        raise FormatError(f"{path} says format {written!r}; this version reads {FORMAT!r}")
    stages: dict[str, dict[str, Any]] = found["stages"]
    return stages


def conflicts(
    folder: Path, stamps: Mapping[str, Mapping[str, Any]], config: "RunConfig", stage: str
) -> None:
    """Refuse `stage` if the folder holds results that other settings made.

    Raises:
        ConfigError: the keys that differ, with both values, and what to do.
    """
    own = (stage,) if STAGES[stage].keeps else ()
    for name in (*STAGES[stage].needs, *own):
        if name not in stamps:
            continue
        held, asked = stamps[name]["settings"], settings_of(config, name)
        keys = [k for k in {**held, **asked} if held.get(k) != asked.get(k)]
        if keys:
            lines = [f"  - {k}: {held.get(k)!r} there, {asked.get(k)!r} asked for" for k in keys]
            raise ConfigError(
                f"{folder} holds another run: its {STAGES[name].product} was made with other "
                "settings\n" + "\n".join(lines) + f"\nchoose another --out, or delete {folder}"
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
