"""`saetools ablate`: switch latents off and see what the model loses, into ablate.json."""

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from saetools.cli.find import open_run
from saetools.cli.index import ensure_index
from saetools.cli.intervention import Where, before_and_after
from saetools.cli.options import Device, Json, Out, Overrides, Quiet, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

__all__ = ["command", "run_concept_ablation", "run_latent_ablation"]

Mode = Literal["zero", "clamp", "clamp_active", "mean"]
_DONE = {
    "zero": "switched off",
    "clamp": "clamped",
    "clamp_active": "clamped where active",
    "mean": "set to their mean",
}


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    concept: Annotated[
        str | None, typer.Option("--concept", help="Label of the corpus; short for concept.label.")
    ] = None,
    n_latents: Annotated[
        int | None,
        typer.Option("--n-latents", min=1, help="At most so many; short for concept.n_latents."),
    ] = None,
    latent: Annotated[
        list[int] | None, typer.Option("--latent", help="Latent to switch off; repeatable.")
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode",
            metavar="MODE",
            help="With --latent: zero; clamp (every token gets --value); clamp_active (tokens on "
            "which the latent fires get it); or mean (of the corpus).",
        ),
    ] = "zero",
    value: Annotated[
        float | None, typer.Option("--value", help="With --mode clamp: the activation to set.")
    ] = None,
    positions: Where = "all",
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="With --latent: text to try it on.")
    ] = None,
    n_tokens: Annotated[
        int, typer.Option("--n-tokens", min=1, help="Tokens to generate (language models).")
    ] = 40,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Switch off the latents of a concept and ask fresh probes whether it can still be read.

    The concept is a label of the corpus. Its latents are chosen on training documents; every
    figure is from held-out ones, beside a control that switches off as many other latents. With
    --latent and --prompt it shows one text with and without those latents instead.

    \b
    Examples:
      saetools ablate runs/demo --concept turtle --n-latents 16
      saetools ablate runs/demo
      saetools ablate runs/demo --latent 12 --latent 40 --prompt "My dog"
      saetools ablate runs/demo --latent 12 --mode clamp_active --value -8 --prompt "My dog"
    """
    view = View(as_json, quiet)
    flags = {"concept.label": concept, "concept.n_latents": n_latents}
    changed = [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    folder = open_run(run, [*(overrides or ()), *changed], out=out, device=device, seed=seed)
    if bool(latent) != (prompt is not None) or (latent and concept is not None):
        raise ConfigError(
            "give --concept LABEL for the experiment, or --latent N with --prompt TEXT to try "
            "latents on one text"
        )
    with view.progress():
        if latent and prompt is not None:
            outcome = run_latent_ablation(
                folder,
                latent,
                prompt=prompt,
                n_tokens=n_tokens,
                mode=mode,
                value=value,
                positions=positions,
            )
        else:
            outcome = run_concept_ablation(folder)
    view.show(outcome)


def run_concept_ablation(run: RunFolder) -> Outcome:
    """Run the concept-ablation experiment of a run's `concept` block."""
    from saetools.evaluate import ConceptAblationConfig, concept_ablation  # heavy: torch, sklearn

    index, path, block = ensure_index(run), run.product("ablate"), run.config.concept
    with run.stage("ablate"), run.store() as store:
        hits = index.concepts(top=1)
        if block.label is None and not hits:
            raise ConfigError(
                f"no concept to ablate: the corpus '{run.corpus.name}' has no label with enough "
                "documents; give --concept LABEL, or --latent N with --prompt TEXT"
            )
        report = concept_ablation(
            run.model,
            run.sae(),
            run.corpus,
            hits[0].label if block.label is None else block.label,
            store=store,
            index=index,
            config=ConceptAblationConfig(
                n_latents=block.n_latents,
                n_docs=block.n_docs,
                ctx_len=run.config.harvest.ctx_len or run.model.ctx_len,
                seed=run.config.seed,
            ),
        )
        report.save(path)
    table = [
        {"where": row.place, "condition": row.condition, "figure": row.metric, "value": str(row)}
        for row in report.rows
    ]
    return Outcome(
        title=f"ablated the concept '{report.concept}'",
        figures={"latents": ", ".join(map(str, report.concept_latents))},
        table=table,
        text=report.verdict,
        wrote=(path,),
        next=f"saetools explore {run.path}",
    )


def run_latent_ablation(
    run: RunFolder,
    latents: list[int],
    *,
    prompt: str,
    n_tokens: int,
    mode: Mode = "zero",
    value: float | None = None,
    positions: str = "all",
) -> Outcome:
    """Show one prompt with and without some latents of a run's SAE."""
    # heavy: torch
    from saetools.intervene import ablate
    from saetools.repro import write_json

    path = run.product("ablate_latents")
    with run.stage("ablate_latents"):
        sae = run.sae()
        means = _means(run) if mode == "mean" else None
        rows, probe = before_and_after(
            run,
            lambda: ablate(
                run.model, sae, latents, mode=mode, value=value, means=means, positions=positions
            ),
            prompt=prompt,
            n_tokens=n_tokens,
        )
        asked: dict[str, Any] = {"prompt": prompt, "latents": latents, "mode": mode, "value": value}
        asked |= {"positions": positions}
        write_json(path, {**asked, "results": rows, "probe": asdict(probe.summary())})
    return Outcome(
        title=f"{_DONE[mode]} {', '.join(map(str, latents))}",
        figures={"prompt": prompt},
        table=rows,
        text=str(probe.summary()),
        wrote=(path,),
    )


def _means(run: RunFolder) -> Any:
    """Mean activation of every latent over all tokens of the store, silent ones included."""
    index = ensure_index(run)
    return index.mean_act * index.firing_rate
