"""A half of the demo: its recipe, its stages, and what it has to say at the end."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from saetools.cli.output import Outcome
from saetools.cli.run import RunFolder

__all__ = ["Half", "StageRow", "headline", "run_stages"]


class Half(NamedTuple):
    """A recipe, its stages in order, why a stage has nothing to do (or None), and the summary."""

    recipe: Path
    stages: Mapping[str, Callable[[RunFolder], Outcome]]
    nothing_to_do: Callable[[RunFolder, str], str | None]
    summary: Callable[[RunFolder], str]


StageRow = dict[str, Any]


def run_stages(run: RunFolder, half: Half) -> list[StageRow]:
    """Run every stage of a half that is not finished with these settings."""
    rows: list[StageRow] = []
    for name, stage in half.stages.items():
        kept = "kept" if run.up_to_date(name) else half.nothing_to_do(run, name)
        note = kept or stage(run).title
        rows.append({"stage": name, "seconds": run.seconds(name), "result": note})
    return rows


def headline(run: RunFolder, names: tuple[str, ...]) -> dict[str, Any]:
    """Size of the store and the named figures of the evaluation, from held-out documents."""
    from saetools.evaluate import EvaluationReport  # heavy: torch, sklearn

    with run.store() as store:
        figures: dict[str, Any] = {"tokens": store.n_tokens, "documents": store.n_docs}
    values = EvaluationReport.load(run.product("evaluate")).values
    return figures | {name: values[name] for name in names if name in values}
