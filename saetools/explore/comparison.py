"""Compare trained SAEs: FVU against L0, a table, and the training curves, on one page."""

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saetools import progress
from saetools.errors import ConfigError
from saetools.explore import plots
from saetools.explore.bundle import Bundle, plain
from saetools.explore.figures import arch_label
from saetools.explore.page import COMPARISON, HtmlPage, assemble
from saetools.explore.runs import SOURCES, TrainedRun, find_runs, names_of, read_run
from saetools.repro import write_json
from saetools.sae import SAE
from saetools.train import stability

__all__ = ["Comparison", "compare", "frontier"]

logger = logging.getLogger(__name__)

_FORMAT = "saetools-comparison/1"
_MEASURED = {
    "evaluation": "saetools evaluate",
    "health": "the health report",
    "training": "the last training batches",
}
_SPLITS = {"held_out": "held-out rows", "train": "training rows", "all": "all rows"}

_SAME_L0 = 0.01


@dataclass(frozen=True, repr=False)
class Comparison(HtmlPage):
    """One self-contained HTML page that compares runs.

    Args:
        html: the whole page.
        runs: a row of the table for each run, in the order given: settings and figures.
        notes: what makes the figures less comparable than they look.
        agreements: how far runs that differ by their seed alone found the same latents.
        title: heading of the page.
        curves: training curves, one for each run, None where there is none.
        path: where it was written, None if it was not.
    """

    html: str
    runs: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    agreements: tuple[str, ...]
    title: str
    curves: tuple[dict[str, Any] | None, ...]
    path: Path | None = None

    def save(self, path: str | Path) -> "Comparison":
        """Write the page, and the same as JSON beside it; returns it with its `path` set."""
        path = self._write(path)
        write_json(path.with_suffix(".json"), self.to_json())
        return replace(self, path=path)

    def to_json(self) -> dict[str, Any]:
        """Everything on the page as plain data."""
        runs = [{**run, "curve": c} for run, c in zip(self.runs, self.curves, strict=True)]
        lines = {"notes": list(self.notes), "agreements": list(self.agreements)}
        content = {"title": self.title, **lines, "runs": runs}
        return {"format": _FORMAT, **plain(content)}

    def _about(self) -> str:
        return f"{len(self.runs)} run{'' if len(self.runs) == 1 else 's'}"


def compare(
    runs: Sequence[str | Path], *, title: str = "Comparison", out: str | Path | None = None
) -> Comparison:
    """Compare trained SAEs on one self-contained page that loads nothing from the network.

    FVU, L0 and the dead fraction come from the same place for all runs: from `evaluation.json` if
    every run has one, else from `health.json`, else from the last training rows. If no place has
    all, each run's best is taken and `notes` says so.

    Args:
        runs: run folders; a folder of run folders stands for all in it.
        title: heading of the page.
        out: where to write it, with the same as JSON beside it; None builds it in memory.

    Raises:
        FormatError: a folder holds no trained SAE, or is damaged.
        ConfigError: there is no run.

    >>> page = compare(["runs/a", "runs/b"], out="compare.html")    # doctest: +SKIP
    """
    if isinstance(runs, str | Path):
        runs = [runs]
    folders = find_runs(runs)
    if not folders:
        raise ConfigError("compare needs at least one run folder; it was given none")
    read = [read_run(folder) for folder in folders]
    sources = _sources(read)
    names = names_of(folders)
    rows = [_row(*parts) for parts in zip(read, names, sources, strict=True)]
    on = frontier([(row["l0"], row["fvu"]) for row in rows])
    rows = [{**row, "frontier": flag} for row, flag in zip(rows, on, strict=True)]
    curves = [plots.training_curve(run.rows) for run in read]
    notes = _notes(read, names, sources)
    agreements = _agreements(read, names)
    head = {
        "title": title,
        "facts": [*_facts(read, sources), *(("Seeds", line) for line in agreements)],
        "notes": notes,
        "runs": [{**row, "curve": curve} for row, curve in zip(rows, curves, strict=True)],
    }
    page = assemble(Bundle(head, {}), title=title, assets=COMPARISON)
    made = Comparison(page, tuple(rows), tuple(notes), tuple(agreements), title, tuple(curves))
    if out is None:
        return made
    made = made.save(out)
    logger.info("wrote %s; open it in a browser", made.path)
    return made


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each (l0, fvu) is on the Pareto frontier: none is as low in both and lower in one.

    L0 that differ by less than a hundredth are one L0: a calibrated threshold meets its target no
    closer. A point with a figure that is not finite is on no frontier.
    """
    finite = [point for point in points if all(map(math.isfinite, point))]
    return [
        point in finite and not any(_beats(other, point) for other in finite) for point in points
    ]


def _beats(other: tuple[float, float], point: tuple[float, float]) -> bool:
    same = math.isclose(other[0], point[0], rel_tol=_SAME_L0)
    lower_l0 = other[0] < point[0] and not same
    return (same or lower_l0) and other[1] <= point[1] and (lower_l0 or other[1] < point[1])


def _sources(runs: Sequence[TrainedRun]) -> list[str]:
    """Where the figures of each run come from: one place for all, if one has all."""
    for source in SOURCES:
        if all(source in run.figures for run in runs):
            return [source] * len(runs)
    return [next((s for s in SOURCES if s in run.figures), "") for run in runs]


def _row(run: TrainedRun, name: str, source: str) -> dict[str, Any]:
    figures = run.figures.get(source)
    config = run.config
    return {
        "name": name,
        "folder": str(run.folder),
        "architecture": arch_label(str(config.get("type"))),
        "n_latents": config.get("n_latents"),
        "k": config.get("k", config.get("target_l0")),
        "seed": run.seed,
        "n_tokens": run.meta.get("trained_tokens"),
        "fvu": math.nan if figures is None else figures.fvu,
        "l0": math.nan if figures is None else figures.l0,
        "dead_fraction": math.nan if figures is None else figures.dead_fraction,
        "measured_on": None if figures is None else _measured(source, figures.where),
        "loss_recovered": run.loss_recovered,
        "tokens_per_second": run.tokens_per_second,
    }


def _measured(source: str, where: str) -> str:
    what = _MEASURED[source]
    return what if source == "training" else f"{what}, {_SPLITS.get(where, where)}"


def _facts(runs: Sequence[TrainedRun], sources: Sequence[str]) -> list[tuple[str, str]]:
    """What all runs have in common."""

    def common(heading: str, values: list[Any]) -> list[tuple[str, str]]:
        same = len(set(values)) == 1 and values[0] is not None
        return [(heading, str(values[0]))] if same else []

    measured = [
        _measured(source, run.figures[source].where) if source else None
        for run, source in zip(runs, sources, strict=True)
    ]
    return [
        ("Runs", str(len(runs))),
        *common("Model", [run.meta.get("model", {}).get("name") for run in runs]),
        *common("Corpus", [run.meta.get("corpus", {}).get("name") for run in runs]),
        *common("Hook", [run.meta.get("hook_name") for run in runs]),
        *common("Figures from", measured),
    ]


def _agreements(runs: Sequence[TrainedRun], names: Sequence[str]) -> list[str]:
    """A line for each pair of runs with different seeds and nothing else between them."""
    pairs = [
        (one, other)
        for one, other in itertools.combinations(range(len(runs)), 2)
        if runs[one].but_for_seed == runs[other].but_for_seed and runs[one].seed != runs[other].seed
    ]
    lines = []
    with progress.task("match seeds", total=len(pairs), unit="pairs") as task:
        for one, other in pairs:
            first, second = (SAE.load(runs[i].folder / "sae") for i in (one, other))
            lines.append(f"{names[one]} and {names[other]} agree: "
                         f"{stability(first, second).sentence}")  # fmt: skip
            task.advance()
    return lines


def _notes(runs: Sequence[TrainedRun], names: Sequence[str], sources: Sequence[str]) -> list[str]:
    notes = []
    if len({run.data for run in runs}) > 1:
        notes.append(
            "These runs read different activations (another model, corpus, hook or harvest), so "
            "their FVU measures different things."
        )
    places = {
        _measured(source, run.figures[source].where)
        for run, source in zip(runs, sources, strict=True)
        if source
    }
    if len(places) > 1:
        notes.append(
            f"The figures come from different places ({'; '.join(sorted(places))}), as the table "
            "says, and are not strictly comparable; run `saetools evaluate` on all runs."
        )
    without = [name for name, source in zip(names, sources, strict=True) if not source]
    if without:
        notes.append(f"Nothing was measured of {', '.join(without)}.")
    return notes
