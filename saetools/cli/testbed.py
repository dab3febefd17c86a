"""`saetools testbed`: a world whose truth is known, and the models that have read it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from saetools.cli import forget, names_truth, recover
from saetools.cli.options import Device, DryRun, Json, Quiet, Resume
from saetools.cli.output import Outcome, View

__all__ = ["COMMANDS"]

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings of the recipe that differ, e.g. n_docs=20000 n_layers=4.",
        show_default=False,
    ),
]
Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant", help="base, oracle-0 or oracle-1; may be repeated. All three by default."
    ),
]
Folder = Annotated[
    Path, typer.Option("--out", help="Folder that gets a folder a model.", metavar="DIR")
]
Shown = Annotated[
    str, typer.Argument(metavar="MODEL", help="planted, planted:oracle-0, planted:oracle-1.")
]


def train(
    settings: Settings = None,
    *,
    variant: Variants = None,
    out: Folder = Path("runs/testbed"),
    device: Device = None,
    resume: Resume = True,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train small language models on the planted world, with and without its forget entities.

    The world is some 200 made-up people, towns, animals and tools. What is true of each was drawn
    at random, so chance is known, and stands in texts in seven forms. An oracle is the same run
    without every sentence about ten of the entities: what unlearning them should end in.

    The defaults are the recipe of the shipped models. A run that was stopped goes on where it was;
    the same settings give the same weights on the same machine and number of threads.

    \b
    Examples:
      saetools testbed train
      saetools testbed train --variant base n_docs=20000 --out runs/small
      saetools testbed train --dry-run world_seed=7
    """
    from saetools.config import validate  # heavy: pydantic
    from saetools.config.source import read_source
    from saetools.testbed.recipe import VARIANTS, Recipe

    view = View(as_json, quiet)
    values = read_source({}, settings or ()).values
    recipe: Recipe = validate(Recipe, values, what="recipe of the testbed")
    names = tuple(variant or VARIANTS)
    if dry_run:
        view.show(Outcome(f"would train {', '.join(names)}", recipe.model_dump()))
        return
    from saetools.testbed.run import train_planted  # heavy: torch, transformers

    with view.progress():
        found = train_planted(
            recipe, out=out, variants=names, device=_torch_device(device), resume=resume
        )
    view.show(
        Outcome(
            f"trained {', '.join(names)}",
            table=[
                {"model": name, **row} for name, recall in found.items() for row in _rows(recall)
            ],
            wrote=tuple(out / name for name in names),
            next=f"saetools testbed info {out / names[0]}",
        )
    )


def info(model: Shown = "planted", as_json: Json = False) -> None:
    """Show what a planted model has read and how many of its facts it knows, as it was measured.

    `choice` is the share of questions where the right option is more probable than the others,
    `greedy` the share where the model would write the right answer by itself; both 0 to 1. Groups:
    facts of forget entities, of retain entities, those in a form held back from training, and
    those of entities that no model has read about.

    \b
    Examples:
      saetools testbed info
      saetools testbed info planted:oracle-0 --json
    """
    import yaml

    from saetools.corpus.planted import World
    from saetools.errors import FormatError
    from saetools.models.shipped import shipped_folder, verify_sums
    from saetools.testbed.folder import read_recall

    folder = shipped_folder(model) or Path(model)
    if not (folder / "recipe.yaml").is_file():
        raise FormatError(
            f"'{model}' is neither a shipped planted model nor a folder that `saetools testbed "
            "train` wrote; give planted, planted:oracle-0, or such a folder"
        )
    verify_sums(folder)
    recipe: dict[str, Any] = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    world = World.build(recipe["recipe"]["world_seed"], recipe["recipe"]["n_entities"])
    measured = read_recall(folder)
    figures = {
        "world": repr(world),
        "to forget": ", ".join(f"{n} ({world.kind(n)})" for n in world.forget_entities),
        "has read them": recipe["variant"]["reads_forget"],
        "tokens read": measured["n_tokens"],
        "final loss": measured["loss"],
        "seconds": measured["seconds"],
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
    }
    View(as_json).show(Outcome(str(model), figures, table=_rows(measured["recall"]), next=""))


def _torch_device(asked: str | None) -> str:
    import torch  # heavy: 2.4 s

    if asked in (None, "auto"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(asked)


def _rows(recall: Any) -> list[dict[str, Any]]:
    return [
        {"facts": group, "form": form, **figures}
        for group, forms in recall.items()
        for form, figures in forms.items()
    ]


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "info": info,
    "recover": recover.command,
    "names": names_truth.command,
    "forget": forget.command,
}
