"""`saetools steer`: what the model says, or how an embedding moves, with latents turned up."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from saetools.cli.find import open_run
from saetools.cli.intervention import Where, before_and_after, condition_of, save_requests
from saetools.cli.options import Device, Json, Out, Overrides, Quiet, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.cli.steer_sweep import run_sweep, strengths_of
from saetools.errors import ConfigError, UnknownNameError, nearest

if TYPE_CHECKING:  # torch stays out of `--help`; types only
    from saetools.intervene import Condition, Request
    from saetools.sae import SAE

__all__ = ["command", "run_recipe", "run_steer"]

Unit = Literal["absolute", "residual_norm", "max_activation"]


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Text to start from, or to embed.")
    ] = None,
    latent: Annotated[
        list[int] | None, typer.Option("--latent", help="Latent to steer along; repeatable.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Instead of a number: a name of names.csv.")
    ] = None,
    strength: Annotated[
        float, typer.Option("--strength", help="How far to steer; negative: away from it.")
    ] = 8.0,
    unit: Annotated[
        Unit,
        typer.Option(
            "--unit",
            metavar="UNIT",
            help="What strength 1 is. absolute: one unit of activation; residual_norm: the length "
            "of the token's own activation; max_activation: the latent's largest on the corpus.",
        ),
    ] = "absolute",
    n_tokens: Annotated[
        int, typer.Option("--n-tokens", min=1, help="Tokens to generate (language models).")
    ] = 40,
    positions: Where = "all",
    when_latent: Annotated[
        list[int] | None,
        typer.Option("--when-latent", help="Steer only where this latent fires; repeatable."),
    ] = None,
    when_above: Annotated[
        float, typer.Option("--when-above", help="With --when-latent: above this activation.")
    ] = 0.0,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Measure effect and damage over strengths.")
    ] = False,
    strengths: Annotated[
        str | None,
        typer.Option("--strengths", help="With --sweep: 0,2,4,8. Default: up to 4 x --strength."),
    ] = None,
    kl_limit: Annotated[
        float | None,
        typer.Option("--kl-limit", help="With --sweep: nats a token on neutral texts.  [0.1]"),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Instead of latents: an intervention recipe.")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write a recipe (.json), or lm-eval's steering file (.pt)."),
    ] = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Add latents to the activation and show the model with and without.

    A language model continues the prompt; a text encoder embeds it, and the texts nearest to the
    embedding are shown. The weights are not touched. Writes steer.json into the run folder.

    With --sweep it measures instead, for each strength, the concept in what the model then says and
    the damage to neutral texts, and picks the strength to use: steer_sweep.json and .svg.

    \b
    Examples:
      saetools steer runs/demo --latent 12 --strength 8 --prompt "My dog"
      saetools steer runs/x --latent 12 --latent 40 --strength -4 --prompt "Hi"
      saetools steer runs/x --name dog --unit residual_norm --strength 1 --prompt "Hi"
      saetools steer runs/x --latent 12 --sweep --unit max_activation --strength 2
      saetools steer runs/x --latent 12 --prompt "Hi" --positions generated --save dog.json
      saetools steer runs/x --recipe dog.json --prompt "Hi"
    """
    view = View(as_json, quiet)
    if recipe is not None and (latent or name or sweep or save or when_latent):
        raise ConfigError(
            "--recipe says all that is to be done; give it with --prompt only, or leave it out"
        )
    if prompt is None and not sweep:
        raise ConfigError("nothing to steer: give --prompt TEXT, or --sweep to measure strengths")
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    with view.progress():
        if recipe is not None and prompt is not None:
            view.show(run_recipe(folder, recipe, prompt=prompt, n_tokens=n_tokens))
            return
        chosen = list(latent or ()) + ([] if name is None else [_latent_of(folder, name)])
        if not chosen:
            raise ConfigError("no latent to steer along; give --latent N, or --name from names.csv")
        when = condition_of(when_latent, when_above)
        if sweep:
            outcome = run_sweep(
                folder,
                chosen,
                at=_At(folder, chosen, unit=unit, positions=positions, when=when),
                strengths=strengths_of(strengths, strength),
                unit=unit,
                prompt=prompt,
                n_tokens=n_tokens,
                kl_limit=kl_limit,
            )
        else:
            outcome = run_steer(
                folder,
                chosen,
                prompt=prompt or "",
                strength=strength,
                unit=unit,
                n_tokens=n_tokens,
                positions=positions,
                when=when,
                save=save,
            )
    view.show(outcome)


def run_steer(
    run: RunFolder,
    latents: Sequence[int],
    *,
    prompt: str,
    strength: float = 8.0,
    unit: Unit = "absolute",
    n_tokens: int = 40,
    positions: str = "all",
    when: "Callable[[SAE], Condition] | None" = None,
    save: Path | None = None,
) -> Outcome:
    """Steer a run's model along `latents` and show one prompt without and with it."""
    from saetools.repro import write_json  # heavy: torch

    at = _At(run, latents, unit=unit, positions=positions, when=when)
    path = run.product("steer")
    with run.stage("steer"):
        rows, (probe,) = before_and_after(
            run, lambda: at(strength), prompt=prompt, n_tokens=n_tokens
        )
        asked = {"prompt": prompt, "latents": latents, "strength": strength, "unit": unit}
        where = {"positions": positions}
        write_json(path, {**asked, **where, "results": rows, "probe": asdict(probe.summary())})
    saved = () if save is None else save_requests(run, [at.request(strength)], save)
    summary = probe.summary()
    return Outcome(
        title=f"steered along {', '.join(map(str, latents))} by {strength:g} ({unit})",
        figures={"prompt": prompt, "mean relative change": summary.mean_relative_change},
        table=rows,
        text="" if summary.fired is None else str(summary.fired),
        wrote=(path, *saved),
    )


def run_recipe(run: RunFolder, recipe: Path, *, prompt: str, n_tokens: int) -> Outcome:
    """Show one prompt without and with what a recipe says, on a run's model and SAE."""
    # heavy: torch
    from saetools.intervene.recipe import InterventionRecipe
    from saetools.repro import write_json

    found = InterventionRecipe.load(recipe)
    path = run.product("steer")
    with run.stage("steer"):
        sae = run.sae()
        found.bound(run.model, sae)  # another model or SAE is said before anything runs
        rows, probes = before_and_after(
            run, lambda: found.applied(run.model, sae), prompt=prompt, n_tokens=n_tokens
        )
        summaries = [probe.summary() for probe in probes]
        body = {"prompt": prompt, "recipe": str(recipe), "results": rows}
        write_json(path, {**body, "probes": [asdict(summary) for summary in summaries]})
    return Outcome(
        title=f"applied the recipe {recipe}",
        figures={"prompt": prompt, "requests": len(found.requests)},
        table=rows,
        text="\n".join(map(str, summaries)),
        wrote=(path,),
    )


class _At:
    """Steering along latents of a run, by any strength: the block, or its request."""

    def __init__(
        self,
        run: RunFolder,
        latents: Sequence[int],
        *,
        unit: Unit,
        positions: str,
        when: "Callable[[SAE], Condition] | None",
    ) -> None:
        from saetools.cli.index import ensure_index  # heavy: torch

        self._run, self._sae = run, run.sae()
        self._latents, self._own, self._positions = latents, unit == "residual_norm", positions
        self._when = None if when is None else when(self._sae)
        self._heights = ensure_index(run).max_act if unit == "max_activation" else None

    def request(self, strength: float) -> "Request":
        """What steering by a strength is."""
        from saetools.intervene import Add, Request, in_units_of  # heavy: torch

        amounts = dict.fromkeys(self._latents, strength)
        if self._heights is not None:
            amounts = in_units_of(amounts, self._heights)
        return Request(
            Add(amounts, "residual_norm" if self._own else "absolute"),
            sae=self._sae,
            positions=self._positions,
            when=self._when,
            label="steer",
        )

    def __call__(self, strength: float) -> AbstractContextManager[Any]:
        """The block of a strength."""
        from saetools.intervene import intervene  # heavy: torch

        return intervene(self._run.model, [self.request(strength)])


def _latent_of(run: RunFolder, name: str) -> int:
    """The latent that names.csv calls so: the whole name, or a part that only one has."""
    from saetools.naming import NamesTable  # heavy: torch

    path = run.product("name")
    if not path.exists():
        raise ConfigError(f"--name needs {path}; run `saetools name {run.path}` first")
    table = list(NamesTable.load(path))
    wanted = name.casefold()
    hits = [row for row in table if row.name.casefold() == wanted]
    hits = hits or [row for row in table if wanted in row.name.casefold()]
    if len(hits) == 1:
        return int(hits[0].latent)
    if hits:
        some = ", ".join(f"{row.latent} ({row.name})" for row in hits[:8])
        raise UnknownNameError(f"{len(hits)} latents are called '{name}': {some}; choose --latent")
    near = ", ".join(nearest(name, {row.name for row in table}))
    raise UnknownNameError(f"no latent in {path} is called '{name}'; the nearest names are: {near}")
