"""`saetools train`: a sparse autoencoder on the harvested activations, into sae/."""

from typing import Annotated

import typer

from saetools.cli.find import open_run
from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Resume, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.cli.sweep import members_of, plan_sweep, run_sweep
from saetools.cli.training import books, build, figures_of, health_of, is_first, settings

__all__ = ["command", "run_train"]

Sweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="KEY=V,V",
        help="Train one SAE for each value, e.g. sae.k=16,32; again for another key.",
    ),
]


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    resume: Resume = True,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    sweep: Sweep = None,
) -> None:
    """Train a sparse autoencoder on the activations that `saetools harvest` stored.

    Writes sae/ (config.json, sae.safetensors), metrics.jsonl and metrics.csv into the run folder,
    and health.json: FVU, L0, dead, dense and duplicate latents on held-out rows, with advice where
    something looks wrong. Training that was stopped goes on from its last checkpoint and ends with
    the same weights. In a terminal its figures are a live table; train.log_to sends them to
    TensorBoard or Weights & Biases too.

    With --sweep every combination is trained, all on one read of the store, into run folders below
    sweep/; every command takes those as well, and `saetools compare` shows them on one page. Of
    SAEs that differ by train.init_seed alone it says how far they found the same latents.

    torchrun trains by many processes: train.parallel=data (the default) shares the rows of each
    batch and ends with the weights that one process would find; train.parallel=latents gives each
    process a slice of the dictionary, for one that no device can hold. See docs/cluster.md.

    \b
    Examples:
      saetools train runs/demo
      saetools train run.yaml sae.k=64 train.lr=1e-3
      saetools train run.yaml "sae={type: topk, n_latents: 512, k: 8}"
      saetools train run.yaml "train.log_to=[tensorboard]"
      saetools train run.yaml --sweep sae.k=16,32,64 --sweep train.init_seed=0,1,2
      torchrun --nproc-per-node 8 -m saetools train runs/demo train.parallel=latents
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    members = members_of(run, overrides or (), sweep, base=folder) if sweep else []
    with view.progress():
        if dry_run:
            outcome = plan_sweep(folder, members) if members else folder.plan("train")
        elif members:
            outcome = run_sweep(folder, members, resume=resume)
        else:
            outcome = run_train(folder, resume=resume)
    if is_first():
        view.show(outcome)


def run_train(run: RunFolder, *, resume: bool = True) -> Outcome:
    """Train a run's SAE; a finished one of the same settings is kept."""
    # heavy: torch
    from saetools.processes import use_own_gpu
    from saetools.train import train

    done_before = resume and run.up_to_date("train")
    use_own_gpu()
    with books(run, "train"), run.store() as store:
        sae = train(
            build(run, store),
            store,
            settings(run),
            out=run.path,
            resume=resume,
            device=run.torch_device,
        )
        if not is_first():
            return Outcome("trained by the first process")
        health = health_of(run, sae, store, made_before=done_before)
    figures = {
        "architecture": f"{sae.config.type}, {sae.config.n_latents:,} latents",
        "d_in": sae.config.d_in,
        "measured on": f"{health.n_tokens:,} {health.about['split'].replace('_', '-')} tokens",
        **figures_of(run),
    }
    title = "the SAE was trained already" if done_before else "trained"
    return Outcome(
        title,
        figures,
        table=health.rows(),
        text="\n".join(f"warning: {text}" for text in health.warnings),
        wrote=(run.product("train"), run.path / "metrics.jsonl", run.path / "health.json"),
        next=f"saetools evaluate {run.path}",
    )
