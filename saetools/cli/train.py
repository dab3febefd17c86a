"""`saetools train`: a sparse autoencoder on the harvested activations, into sae/."""

import json

from saetools.cli.find import open_run
from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Resume, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder

__all__ = ["command", "run_train"]


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
) -> None:
    """Train a sparse autoencoder on the activations that `saetools harvest` stored.

    Writes sae/ (config.json, sae.safetensors), metrics.jsonl and metrics.csv into the run folder,
    and health.json: FVU, L0, dead, dense and duplicate latents on held-out rows, with advice where
    something looks wrong. Training that was stopped goes on from its last checkpoint and ends with
    the same weights. In a terminal its figures are a live table; train.log_to sends them to
    TensorBoard or Weights & Biases too. `saetools compare` shows several runs on one page.

    \b
    Examples:
      saetools train runs/demo
      saetools train run.yaml sae.k=64 train.lr=1e-3
      saetools train run.yaml "sae={type: topk, n_latents: 512, k: 8}"
      saetools train run.yaml "train.log_to=[tensorboard]"
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    with view.progress():
        outcome = folder.plan("train") if dry_run else run_train(folder, resume=resume)
    view.show(outcome)


def run_train(run: RunFolder, *, resume: bool = True) -> Outcome:
    """Train a run's SAE; a finished one of the same settings is kept."""
    # heavy: torch
    from saetools.sae import build_sae
    from saetools.train import HealthReport, TrainConfig, health_report, train

    block = run.config.sae
    done_before = resume and run.up_to_date("train")
    with run.stage("train"), run.store() as store:
        config = TrainConfig(**run.config.train, seed=run.config.seed)
        fields = {"type": block.type, "d_in": store.d_in, **block.fields}
        sae = build_sae(**fields, seed=run.config.seed).to(run.torch_device)
        sae = train(sae, store, config, out=run.path, resume=resume)
        path = run.path / "health.json"
        if done_before and path.exists():
            health = HealthReport.load(path)
        else:
            health = health_report(sae, store, seed=run.config.seed)
            health.save(path)
    rows = (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(rows[-1]) if rows else {}
    shown = ("n_tokens", "tokens_per_second")
    figures = {
        "architecture": f"{sae.config.type}, {sae.config.n_latents:,} latents",
        "d_in": sae.config.d_in,
        "measured on": f"{health.n_tokens:,} {health.about['split'].replace('_', '-')} tokens",
        **{name: last[name] for name in shown if name in last},
    }
    title = "the SAE was trained already" if done_before else "trained"
    return Outcome(
        title,
        figures,
        table=health.rows(),
        text="\n".join(f"warning: {text}" for text in health.warnings),
        wrote=(run.product("train"), run.path / "metrics.jsonl", path),
        next=f"saetools evaluate {run.path}",
    )
