"""`saetools testbed forget`: switch an entity's latents off, and compare with an oracle."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from saetools.cli.find import open_run
from saetools.cli.options import Json, Overrides, Quiet, Run
from saetools.cli.output import Outcome, View
from saetools.cli.planted import truth_of, world_of
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError, UnknownNameError, nearest

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from saetools.corpus.planted import LabelledText, World
    from saetools.evaluate.unlearning import UnlearningData, UnlearningReport
    from saetools.models import LanguageModel, SubjectModel

__all__ = ["command", "run_forget"]

_ORACLES = ("planted:oracle-0", "planted:oracle-1")
_N_RETAIN = 40
_N_TEXTS = 100
_N_PORTRAITS = 8
_MEASURES = (
    "efficacy",
    "form_robustness",
    "neighbours_kept",
    "utility",
    "residue",
    "privacy_leak",
    "kl_to_oracle",
    "accuracy",
)

Entity = Annotated[
    str | None,
    typer.Option("--entity", help="One of the forget entities; the first by default."),
]
NLatents = Annotated[
    int, typer.Option("--n-latents", help="Latents to switch off, best first.", min=1, max=8)
]


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    entity: Entity = None,
    n_latents: NLatents = 1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Switch off the latents of one entity of the planted world, and see what the model forgot.

    The latents that tell the entity best (by `saetools testbed recover`) are set to zero in the
    running model; then facts about it are asked in every form, those of its neighbours, and all is
    compared with a model that never read about it. Writes forgetting.json into the run folder.

    \b
    Examples:
      saetools testbed forget runs/demo_planted
      saetools testbed forget runs/demo_planted --entity Ravvik --n-latents 4
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides)
    with view.progress():
        outcome = run_forget(folder, entity=entity, n_latents=n_latents)
    view.show(outcome)


def run_forget(run: RunFolder, *, entity: str | None = None, n_latents: int = 1) -> Outcome:
    """Ablate an entity's latents in the running model and evaluate what is forgotten."""
    # heavy: torch
    from saetools.evaluate.unlearning import (
        UnlearningSettings,
        evaluate_unlearning,
        intervened,
    )
    from saetools.intervene import ablate

    world = world_of(run)
    name = _chosen(world, entity)
    path, model, sae = run.product("forget"), _language_model(run.model), run.sae()
    with run.stage("forget"):
        latents = _latents_of(run, name)[:n_latents]
        report = evaluate_unlearning(
            intervened(model, lambda: ablate(model, sae, latents)),
            original=model,
            oracles=_oracles(run.torch_device),
            data=_data(world, name, run.config.seed),
            settings=UnlearningSettings(measures=_MEASURES, seed=run.config.seed),
        )
        about = {**report.about, "entity": name, "latents": list(latents)}
        report = replace(report, about=about)
        report.save(path)
    return Outcome(
        title=f"switched off latents {', '.join(map(str, latents))} of '{name}'",
        table=_table(report),
        text="\n".join(f"not measured: {what}, as {why}" for what, why in _told(report)),
        wrote=(path,),
        next=f"saetools explore {run.path}",
    )


def _language_model(model: "SubjectModel") -> "LanguageModel":
    from saetools.models import LanguageModel  # heavy: torch

    if not isinstance(model, LanguageModel):
        raise ConfigError(f"{model.name} is no language model; facts cannot be asked of it")
    return model


def _oracles(device: str) -> "list[LanguageModel]":
    from saetools.models import load_model  # heavy: torch

    return [_language_model(load_model(oracle, device=device)) for oracle in _ORACLES]


def _chosen(world: "World", entity: str | None) -> str:
    name = world.forget_entities[0] if entity is None else entity
    if name not in world.forget_entities:
        raise UnknownNameError(
            f"'{name}' is no forget entity, so there is no oracle without it; nearest: "
            f"{', '.join(nearest(name, world.forget_entities))}; all: "
            f"{', '.join(world.forget_entities)}"
        )
    return name


def _latents_of(run: RunFolder, name: str) -> tuple[int, ...]:
    from saetools.testbed.concept_recovery import recover_concepts  # heavy: torch

    with run.store() as store:
        recovery = recover_concepts(run.sae(), store, truth_of(run, store).only("entity"))
    for found in recovery.concepts:
        if found.name == name:
            return found.latents
    raise ConfigError(
        f"'{name}' occurs too seldom in the harvested texts to find its latents; harvest more "
        "documents (data.n_docs)"
    )


def _data(world: "World", name: str, seed: int) -> "UnlearningData":
    """Questions about the entity, its neighbours and others, and texts for utility and privacy."""
    from saetools.evaluate.unlearning import UnlearningData  # heavy: torch

    near = world.neighbours(name)
    far = [other for other in world.retain_entities if other not in near][:_N_RETAIN]
    kind = world.kind(name)
    unread = [entity.name for entity in world.held_out_entities if entity.kind == kind]
    return UnlearningData(
        forget=world.questions(entities=[name], trained=True),
        retain=world.questions(entities=[*near[:_N_RETAIN], *far], trained=True),
        neighbours=world.questions(entities=near[:_N_RETAIN], trained=True),
        texts=_texts(world.documents(_N_TEXTS, seed + 1, without=world.forget_entities)),
        forget_texts=_texts(world.texts_about([name], n_each=_N_PORTRAITS, seed=seed)),
        holdout_texts=_texts(world.texts_about(unread, n_each=_N_PORTRAITS, seed=seed)),
    )


def _texts(texts: "Sequence[LabelledText]") -> tuple[str, ...]:
    return tuple(text.text for text in texts)


def _table(report: "UnlearningReport") -> list[dict[str, object]]:
    return [
        {
            "figure": row.name + (f" {row.detail}" if row.detail else ""),
            "model": row.model,
            "value": row.value,
            "low": row.low,
            "high": row.high,
        }
        for row in report.rows
    ]


def _told(report: "UnlearningReport") -> list[tuple[str, str]]:
    return [(name, why) for name, why in report.missing.items() if why != "not asked for"]
