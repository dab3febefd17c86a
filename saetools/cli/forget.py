"""`saetools testbed forget`: switch an entity's latents off, and compare with an oracle."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from saetools.cli.find import open_run
from saetools.cli.options import Json, Overrides, Quiet, Run
from saetools.cli.output import Outcome, View
from saetools.cli.planted import world_of
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError, UnknownNameError, nearest

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from saetools.corpus import Question
    from saetools.corpus.planted import LabelledText, World
    from saetools.evaluate.unlearning import UnlearningData, UnlearningReport
    from saetools.models import LanguageModel, SubjectModel
    from saetools.sae import SAE

__all__ = ["command", "run_forget"]

_ORACLES = ("planted:oracle-0", "planted:oracle-1")
_N_LATENTS = 16
_N_RETAIN = 40
_CHOSEN_ON = "statement"  # asked to choose the latents; the other forms are measured
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
    int, typer.Option("--n-latents", help="Latents to switch off, strongest first.", min=1)
]


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    entity: Entity = None,
    n_latents: NLatents = _N_LATENTS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Switch off the latents of one entity of the planted world, and see what the model forgot.

    Chosen are the latents on which the answers about the entity rest more than those about its
    neighbours (attribution on plain statements). They are set to zero in the running model; then
    facts about it are asked in the other forms, and facts about others, and all is compared with
    models that never read about it. Writes forgetting.json into the run folder.

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


def run_forget(
    run: RunFolder, *, entity: str | None = None, n_latents: int = _N_LATENTS
) -> Outcome:
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
        latents = _latents_of(model, sae, world, name)[:n_latents]
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
        title=f"switched off {len(latents)} latents of '{name}'",
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


def _latents_of(model: "LanguageModel", sae: "SAE", world: "World", name: str) -> tuple[int, ...]:
    """All latents, those first on which this entity's facts rest more than its neighbours'."""
    from saetools.analysis import attribute_latents  # heavy: torch

    own, near = (
        attribute_latents(model, sae, world.questions(_CHOSEN_ON, names, trained=True))
        for names in ([name], world.neighbours(name)[_N_RETAIN:] or world.neighbours(name))
    )
    return tuple((own - near).argsort(descending=True).tolist())


def _data(world: "World", name: str, seed: int) -> "UnlearningData":
    """Questions about the entity, its neighbours and others, and texts for utility and privacy."""
    from saetools.evaluate.unlearning import UnlearningData  # heavy: torch

    near = world.neighbours(name)
    far = [other for other in world.retain_entities if other not in near][:_N_RETAIN]
    kind = world.kind(name)
    unread = [entity.name for entity in world.held_out_entities if entity.kind == kind]
    return UnlearningData(
        forget=_asked(world, [name]),
        retain=_asked(world, [*near[:_N_RETAIN], *far]),
        neighbours=_asked(world, near[:_N_RETAIN]),
        texts=_texts(world.documents(_N_TEXTS, seed + 1, without=world.forget_entities)),
        forget_texts=_texts(world.texts_about([name], n_each=_N_PORTRAITS, seed=seed)),
        holdout_texts=_texts(world.texts_about(unread, n_each=_N_PORTRAITS, seed=seed)),
    )


def _asked(world: "World", names: "Sequence[str]") -> "tuple[Question, ...]":
    """What is known of these, in every form but that which the latents were chosen on."""
    return tuple(q for q in world.questions(entities=names, trained=True) if q.form != _CHOSEN_ON)


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
