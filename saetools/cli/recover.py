"""`saetools testbed recover`: which planted concepts an SAE found, and whether names are right."""

from typing import TYPE_CHECKING, Any

from saetools.cli.find import open_run
from saetools.cli.options import DryRun, Json, Overrides, Quiet, Run
from saetools.cli.output import Outcome, View
from saetools.cli.planted import truth_of
from saetools.cli.run import RunFolder

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from saetools.testbed.concept_recovery import ConceptRecovery

__all__ = ["command", "run_recover"]

_FORMAT = "saetools-recovery/1"
_LEAST = 0.9


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare an SAE with the truth of the planted world: concepts found, names that are right.

    For each concept (an entity, a value, a level such as bird, a topic, ...) the latent whose
    firing has the best F1 on training documents is measured on held-out ones. A concept counts as
    recovered from AUROC 0.9. Writes recovery.json into the run folder.

    \b
    Examples:
      saetools testbed recover runs/demo_planted
      saetools testbed recover runs/demo_planted --json
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides)
    with view.progress():
        outcome = folder.plan("recover") if dry_run else run_recover(folder)
    view.show(outcome)


def run_recover(run: RunFolder) -> Outcome:
    """Find the latent of each planted concept, and compare the names with the truth."""
    # heavy: torch
    from saetools.naming import NamesTable
    from saetools.repro import write_json
    from saetools.testbed.concept_recovery import recover_concepts
    from saetools.testbed.name_truth import name_truth

    path, names = run.product("recover"), run.load_if_finished("name", NamesTable.load)
    with run.stage("recover"), run.store() as store:
        recovery = recover_concepts(run.sae(), store, truth_of(run, store))
        content: dict[str, Any] = {
            "format": _FORMAT,
            "least_auroc": _LEAST,
            "n_rare": recovery.n_rare,
            "layers": _layers(recovery),
            "concepts": [found._asdict() for found in recovery.concepts],
        }
        if names is not None:
            words = {name.latent: name.words for name in names}
            content["names"] = name_truth(recovery, words, least=_LEAST)._asdict()
        write_json(path, content)
    return Outcome(
        title=f"recovered {len(recovery.recovered(least=_LEAST))} of {len(recovery.concepts)} "
        f"planted concepts (AUROC {_LEAST} on held-out documents)",
        table=content["layers"],
        text=_names(content.get("names")),
        wrote=(path,),
        next=f"saetools testbed forget {run.path}",
    )


def _layers(recovery: "ConceptRecovery") -> list[dict[str, Any]]:
    return [
        {
            "concepts": name,
            "recovered": layer.n_recovered,
            "of": layer.n_concepts,
            "median AUROC": layer.auroc,
            "median F1": layer.f1,
        }
        for name, layer in recovery.by_layer(least=_LEAST).items()
    ]


def _names(found: dict[str, Any] | None) -> str:
    if found is None:
        return "The latents have no names yet: run `saetools name` first to see how many are right."
    return (
        f"Of {found['n_concepts']} recovered concepts that have a word, the latent's name says it "
        f"for {found['right_fraction']:.0%}; the name of another latent of the same sort for "
        f"{found['swapped_fraction']:.0%}."
    )
