"""The demo's first half: topics in a real text encoder, one of them switched off."""

from pathlib import Path

from saetools.cli.ablate import run_concept_ablation
from saetools.cli.demo_half import Half
from saetools.cli.evaluate import run_evaluate
from saetools.cli.explore import run_explore
from saetools.cli.harvest import run_harvest
from saetools.cli.index import ensure_index, run_index
from saetools.cli.name import run_name
from saetools.cli.run import RunFolder
from saetools.cli.train import run_train

__all__ = ["ENCODER"]

_N_CONCEPTS = 10


def _nothing_to_do(run: RunFolder, stage: str) -> str | None:
    if stage != "ablate" or run.config.concept.label is not None or ensure_index(run).labels:
        return None
    return "left out: no label of the corpus has enough documents"


def _summary(run: RunFolder) -> str:
    return "\n".join([_concepts(run), _ablation(run)])


def _concepts(run: RunFolder) -> str:
    """The latents that tell a label best, with their names."""
    from saetools.naming import NamesTable  # heavy: torch, h5py

    names = NamesTable.load(run.product("name"))
    lines = ["Concepts that one latent tells (chosen on training documents, measured on others):"]
    for hit in ensure_index(run).concepts(top=_N_CONCEPTS):
        name = names.get(hit.latent)
        lines.append(
            f"  {hit.label:<16} latent {hit.latent:<5} AUROC {hit.auroc_held_out:.2f} on "
            f"{hit.n_docs_held_out:>3} documents   {name.name if name else ''}"
        )
    return "\n".join(lines)


def _ablation(run: RunFolder) -> str:
    """What switching the concept's latents off did, beside the control, and the verdict."""
    from saetools.evaluate import ConceptAblationReport  # heavy: torch, sklearn

    report = run.load_if_finished("ablate", ConceptAblationReport.load)
    if report is None:
        return "No concept was switched off: no label of the corpus has enough documents."
    final = {(r.condition, r.metric): r.value for r in report.rows if r.place == "final"}
    # The probe trained before is, on clean documents, the fresh probe itself.
    final["clean", "transfer_balanced_accuracy"] = final["clean", "balanced_accuracy"]
    figures = {
        "fresh probe, AUROC": "auroc",
        "probe trained before, bal. acc.": "transfer_balanced_accuracy",
        "accuracy on the other labels": "other_labels_accuracy",
        "cosine to before, its documents": "cosine_concept",
        "cosine to before, the others": "cosine_other",
    }
    lines = [f"Latents of '{report.concept}' switched off, final embedding (held-out documents):"]
    lines.append(f"  {'':<32}{'clean':>10}{'ablated':>10}{'control':>10}")
    for label, metric in figures.items():
        cells = [final.get((condition, metric)) for condition in ("clean", "ablated", "control")]
        shown = [f"{'-' if value is None else f'{value:.3f}':>10}" for value in cells]
        lines.append(f"  {label:<32}{''.join(shown)}")
    return "\n".join([*lines, report.verdict])


ENCODER = Half(
    recipe=Path(__file__).with_name("demo_encoder.yaml"),
    stages={
        "harvest": run_harvest,
        "train": run_train,
        "evaluate": run_evaluate,
        "index": run_index,
        "name": run_name,
        "ablate": run_concept_ablation,
        "explore": run_explore,
    },
    nothing_to_do=_nothing_to_do,
    summary=_summary,
)
