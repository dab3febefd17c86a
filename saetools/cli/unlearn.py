"""`saetools unlearn`: make a model forget for good, and judge what that came to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Seed
from saetools.cli.output import Outcome, View
from saetools.errors import ConfigError

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from collections.abc import Iterator

    from saetools.models import LanguageModel, SubjectModel
    from saetools.unlearn import Plan, Unlearned
    from saetools.unlearn.judge import Judgement
    from saetools.unlearn.recipe import UnlearnRecipe

__all__ = ["command", "run_unlearn"]

_TOLD = (
    "efficacy",
    "form_gap",
    "neighbours_kept",
    "utility",
    "residue",
    "relearning_gap",
    "relearn_resistance",
    "score",
)

_UNASKED = "not asked for"

Recipe = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="A YAML file, e.g. of configs/unlearn.", dir_okay=False),
]


def command(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Edit a model's weights so that it no longer knows something, and judge the result.

    Writes an ordinary model folder (plain transformers loads it), and report.html and
    judgement.json with every measure and an honest verdict. An edit that breaks the model is
    refused and nothing is written. With --dry-run it prints the plan: which latents, on which
    evidence, what was rejected and why, which weights.

    \b
    Examples:
      saetools unlearn configs/unlearn/planted_npo.yaml --dry-run
      saetools unlearn configs/unlearn/planted_npo.yaml method.n_steps=50 --out runs/forgotten
    """
    from saetools.unlearn.recipe import load_recipe  # heavy: torch

    view = View(as_json, quiet)
    flags = {"out": out, "device": device, "seed": seed}
    changed = [f"{key}={value}" for key, value in flags.items() if value is not None]
    read = load_recipe(recipe, *(overrides or ()), *changed)
    with view.progress():
        outcome = run_unlearn(read, dry_run=dry_run)
    view.show(outcome)


def run_unlearn(recipe: "UnlearnRecipe", *, dry_run: bool = False) -> Outcome:
    """Plan, and unless it is a dry run carry out, judge and write a recipe.

    Raises:
        DamageError: the edit breaks the model; nothing is written.
    """
    # heavy: torch
    from saetools.models import load_model
    from saetools.sae import SAE
    from saetools.unlearn import plan_unlearning, unlearn

    model = load_model(recipe.model, device=recipe.device)
    saes = tuple(SAE.load(folder, device=recipe.device) for folder in recipe.saes)
    shared: dict[str, Any] = {
        "forget": recipe.forget.read(),
        "retain": recipe.retain.read(),
        "saes": saes,
        "seed": recipe.seed,
        **recipe.method_config,
    }
    plan = plan_unlearning(model, recipe.method_name, **shared)
    if dry_run:
        return _planned(plan)
    edited = unlearn(
        model,
        recipe.method_name,
        plan=plan,
        max_perplexity_ratio=recipe.max_perplexity_ratio,
        **shared,
    )
    judgement = _judged(recipe, model, edited, shared)
    return _written(recipe, edited, judgement)


def _planned(plan: "Plan") -> Outcome:
    return Outcome(
        title="dry run: nothing is changed or written",
        table=[latent.as_row() for latent in plan.latents],
        text=str(plan),
    )


def _judged(
    recipe: "UnlearnRecipe", model: "SubjectModel", edited: "Unlearned", shared: dict[str, Any]
) -> "Judgement | None":
    # heavy: torch
    from saetools.evaluate.unlearning import UnlearningData
    from saetools.models import LanguageModel, load_model
    from saetools.unlearn.judge import judge
    from saetools.unlearn.recipe import questions_in, texts_in

    block = recipe.evaluate
    if block is None:
        return None
    if not isinstance(model, LanguageModel):
        raise ConfigError(
            f"{model.name} is a text encoder and answers no questions; leave `evaluate` out, and "
            "measure probes and retrieval on the edited folder"
        )
    oracles: list[LanguageModel] = []
    for name in block.oracles:
        oracle = load_model(name, device=recipe.device)
        assert isinstance(oracle, LanguageModel), f"{name} is no language model"
        oracles.append(oracle)
    data = UnlearningData(
        forget=questions_in(block.forget),
        retain=questions_in(block.retain),
        texts=texts_in(block.texts),
        forget_texts=texts_in(block.forget_texts),
        holdout_texts=texts_in(block.holdout_texts),
    )
    return judge(
        edited,
        original=model,
        data=data,
        oracles=oracles,
        controls=dict(_controls(recipe, model, edited, shared)),
        saes=shared["saes"],
        settings=block.settings,
    )


def _controls(
    recipe: "UnlearnRecipe", model: "LanguageModel", edited: "Unlearned", shared: dict[str, Any]
) -> "Iterator[tuple[str, LanguageModel]]":
    """Models that the edit is to be told from, by name."""
    # heavy: torch
    from saetools.evaluate.unlearning import random_edit
    from saetools.models import LanguageModel
    from saetools.unlearn import unlearn
    from saetools.unlearn.control import random_latents

    asked = recipe.evaluate.controls if recipe.evaluate else ()
    assert isinstance(edited.model, LanguageModel), "an encoder is not judged"
    if "random_change" in asked:
        yield "random change of the same size", random_edit(model, edited.model, seed=recipe.seed)
    if "random_latents" in asked:
        plan = random_latents(
            edited.report.plan, model, saes=shared["saes"], forget=shared["forget"]
        )
        other = unlearn(
            model, recipe.method_name, plan=plan, max_perplexity_ratio=None, **shared
        ).model
        assert isinstance(other, LanguageModel), "the original is a language model"
        yield "random latents", other


def _written(
    recipe: "UnlearnRecipe", edited: "Unlearned", judgement: "Judgement | None"
) -> Outcome:
    folder = recipe.folder
    wrote = [edited.save(folder / "model")]
    if edited.adapter is not None:
        wrote.append(edited.save_adapter(folder / "adapter"))
    report = edited.report
    figures: dict[str, Any] = {
        "method": report.method,
        "weight tensors changed": len(report.changes),
        "edit norm": report.edit_norm,
        "seconds": report.seconds,
    }
    if report.guard is not None:
        figures["perplexity, times the original's"] = report.guard.ratio
    if judgement is None:
        text = "no evaluate block: nothing shows that anything was forgotten"
        return Outcome(f"wrote {wrote[0]}", figures, text=text, wrote=tuple(wrote))
    # heavy: torch
    from saetools.explore import show_judgement

    page = show_judgement(judgement, title=recipe.name, out=folder / "report.html")
    assert page.path is not None, "a page that was given a place is written"
    wrote += [judgement.save(folder / "judgement.json"), page.path]
    return Outcome(
        title=judgement.verdict.sentence,
        figures=figures,
        table=_told(judgement),
        text=_missing(judgement),
        wrote=tuple(wrote),
        next=f"open {folder / 'report.html'}",
    )


def _told(judgement: "Judgement") -> list[dict[str, object]]:
    return [
        {
            "figure": row.name,
            "model": row.model,
            "value": row.value,
            "low": row.low,
            "high": row.high,
        }
        for row in judgement.evaluation.rows
        if row.name in _TOLD and not row.detail
    ]


def _missing(judgement: "Judgement") -> str:
    missing = judgement.evaluation.missing
    lines = [f"not measured: {n}, as {why}" for n, why in missing.items() if why != _UNASKED]
    unasked = [name for name, why in missing.items() if why == _UNASKED]
    return "\n".join([*lines, *([f"not asked for: {', '.join(unasked)}"] if unasked else [])])
