"""`saetools steer`: what the model says, or how an embedding moves, with latents turned up."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from saetools.cli.find import open_run
from saetools.cli.intervention import before_and_after
from saetools.cli.options import Device, Json, Out, Overrides, Quiet, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError, UnknownNameError, nearest

__all__ = ["command", "run_steer"]

Unit = Literal["absolute", "residual_norm", "max_activation"]


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    prompt: Annotated[str, typer.Option("--prompt", help="Text to start from, or to embed.")],
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
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Add latents to the activation and show the model with and without.

    A language model continues the prompt; a text encoder embeds it, and the texts nearest to the
    embedding are shown. The weights are not touched. Writes steer.json into the run folder.

    \b
    Examples:
      saetools steer runs/demo --latent 12 --strength 8 --prompt "My dog"
      saetools steer runs/x --latent 12 --latent 40 --strength -4 --prompt "Hi"
      saetools steer runs/x --name dog --unit residual_norm --strength 1 --prompt "Hi"
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    with view.progress():
        latents = list(latent or ()) + ([] if name is None else [_latent_of(folder, name)])
        outcome = run_steer(
            folder, latents, prompt=prompt, strength=strength, unit=unit, n_tokens=n_tokens
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
) -> Outcome:
    """Steer a run's model along `latents` and show one prompt without and with it."""
    # heavy: torch
    from saetools.cli.index import ensure_index
    from saetools.intervene import steer
    from saetools.repro import write_json

    if not latents:
        raise ConfigError("no latent to steer along; give --latent N, or --name from names.csv")
    heights = ensure_index(run).max_act if unit == "max_activation" else None
    path = run.product("steer")
    with run.stage("steer"):
        sae = run.sae()
        rows, probe = before_and_after(
            run,
            lambda: steer(
                run.model,
                sae,
                dict.fromkeys(latents, strength),
                unit=unit,
                max_activations=None if heights is None else heights.tolist(),
            ),
            prompt=prompt,
            n_tokens=n_tokens,
        )
        asked = {"prompt": prompt, "latents": latents, "strength": strength, "unit": unit}
        write_json(path, {**asked, "results": rows, "probe": asdict(probe.summary())})
    return Outcome(
        title=f"steered along {', '.join(map(str, latents))} by {strength:g} ({unit})",
        figures={"prompt": prompt, "mean relative change": probe.summary().mean_relative_change},
        table=rows,
        wrote=(path,),
    )


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
