"""What a run folder tells about a trained SAE without loading it: settings, figures, its curve.

Figures come from one of three places: `evaluation.json`, `health.json`, or the last row of
`metrics.jsonl`. They are measured on different rows, so those of several runs are only comparable
when they come from the same place.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from saetools.errors import FormatError
from saetools.evaluate import EvaluationReport
from saetools.sae.folder import read_header
from saetools.train import HealthReport, read_metrics

__all__ = ["SOURCES", "Figures", "TrainedRun", "find_runs", "names_of", "read_run"]

SOURCES = ("evaluation", "health", "training")
"""Where figures can come from, best first."""


class Figures(NamedTuple):
    """Figures of one run from one place; NaN where it does not have them."""

    where: str
    fvu: float
    l0: float
    dead_fraction: float


class TrainedRun(NamedTuple):
    """A trained SAE as its run folder describes it.

    config are the fields of the architecture; train the settings of its training; figures what was
    measured, by source; loss_recovered is None where it was not evaluated; rows is metrics.jsonl.
    """

    folder: Path
    config: Mapping[str, Any]
    meta: Mapping[str, Any]
    figures: Mapping[str, Figures]
    loss_recovered: float | None
    rows: Sequence[Mapping[str, Any]]

    @property
    def train(self) -> Mapping[str, Any]:
        """Settings of the training run."""
        found: Mapping[str, Any] = self.meta.get("identity", {}).get("train", {})
        return found

    @property
    def seed(self) -> int | None:
        """The seed of its first weights, where that is a setting of its own, or of everything."""
        own = self.train.get("init_seed")
        found: int | None = self.train.get("seed") if own is None else own
        return found

    @property
    def data(self) -> str:
        """What it was trained on: equal for runs that read the same rows at the same hook."""
        store = self.meta.get("identity", {}).get("store")
        return f"{store} {self.meta.get('hook_name')}"

    @property
    def but_for_seed(self) -> tuple[Any, ...]:
        """Its architecture, rows and settings of training; equal for runs that differ by seed."""
        train = {k: v for k, v in self.train.items() if k not in ("seed", "init_seed")}
        return dict(self.config), self.data, train

    @property
    def tokens_per_second(self) -> float:
        """Mean speed of the training; NaN if it is unknown."""
        n_before, n_tokens, seconds = 0, 0, 0.0
        for row in self.rows:
            speed = _number(row.get("tokens_per_second"))
            if speed > 0:
                n_tokens += row["n_tokens"] - n_before
                seconds += (row["n_tokens"] - n_before) / speed
            n_before = row["n_tokens"]
        return n_tokens / seconds if seconds > 0 else math.nan


def find_runs(folders: Sequence[str | Path]) -> list[Path]:
    """The run folders among `folders`; a folder of runs, a sweep say, stands for those in it.

    Raises:
        FormatError: a folder holds no trained SAE.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        inside = [path.parents[1] for path in sorted(folder.glob("*/sae/config.json"))]
        inside = inside or [p.parents[1] for p in sorted(folder.glob("sweep/*/sae/config.json"))]
        if (folder / "sae" / "config.json").is_file():
            found.append(folder)
        elif (folder / "sae.safetensors").is_file():
            found.append(folder.parent)  # the SAE of a run was named
        elif inside:
            found += inside
        else:
            raise FormatError(
                f"{folder} holds no trained SAE: there is no sae/config.json in it or in a folder "
                "of it; name run folders that `saetools train` has finished"
            )
    return list(dict.fromkeys(found))


def names_of(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many as tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-n:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def read_run(folder: str | Path) -> TrainedRun:
    """Read a run folder.

    Raises:
        FormatError: its SAE or one of its reports is damaged.
    """
    folder = Path(folder)
    config, meta = read_header(folder / "sae")
    rows = read_metrics(folder / "metrics.jsonl")
    figures: dict[str, Figures] = {}
    loss_recovered = None
    if _usable(folder, "evaluate", "evaluation.json"):
        report = EvaluationReport.load(folder / "evaluation.json")
        figures["evaluation"] = _figures(str(report.about.get("split", "?")), report.values)
        loss_recovered = report.values.get("loss_recovered_zero")
    if _usable(folder, "train", "health.json"):
        health = HealthReport.load(folder / "health.json")
        figures["health"] = _figures(str(health.about.get("split", "?")), health.values)
    if rows:
        figures["training"] = _figures("train", rows[-1])
    return TrainedRun(folder, config, meta, figures, loss_recovered, rows)


def _figures(where: str, values: Mapping[str, Any]) -> Figures:
    names = ("fvu", "l0", "dead_fraction")
    return Figures(where, *(_number(values.get(name)) for name in names))


def _usable(folder: Path, stage: str, name: str) -> bool:
    """Whether a report is there, and made from the SAE that is there now, as run.json says."""
    if not (folder / name).is_file():
        return False
    stamps = folder / "run.json"
    if not stamps.is_file():
        return True
    try:
        stages = json.loads(stamps.read_text(encoding="utf-8"))["stages"]
        return bool(stages.get(stage, {"finished": True})["finished"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise FormatError(f"{stamps} is damaged ({error!r}); delete it or the run") from error


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
