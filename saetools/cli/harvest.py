"""`saetools harvest`: the subject model's activations on the corpus, into acts.h5."""

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from saetools.cli.find import open_run
from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Resume, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.cli.training import is_first
from saetools.errors import ConfigError

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from saetools.store import ActivationStore

__all__ = ["command", "plan_run", "run_harvest"]

_OPTIONS = ("packing", "long", "pooling", "max_norm_multiple", "special_tokens")


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
    """Run the subject model over the texts and store its activations at one hook.

    Writes acts.h5 into the run folder. A harvest that was stopped goes on where it ended; one that
    is complete is not done again. Documents are split here into those for training and those held
    out for honest numbers. With --dry-run nothing is written: it loads the model, times a few
    batches, and says how many tokens, bytes and seconds the harvest will take. The precision error
    that is shown is the share of the variance that storing in this precision lost.

    \b
    Examples:
      saetools harvest configs/tiny/tiny_topk.yaml
      saetools harvest run.yaml harvest.hook_name=resid_post.3
      saetools harvest run.yaml --out runs/other --device cuda
      saetools harvest run.yaml --dry-run
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    with view.progress():
        outcome = plan_run(folder) if dry_run else run_harvest(folder, resume=resume)
    if is_first():
        view.show(outcome)


def plan_run(run: RunFolder) -> Outcome:
    """Predict what a harvest will take: a model is loaded and timed, nothing is written."""
    from saetools.corpus import for_model  # heavy: torch, h5py
    from saetools.harvest.auto import default_ctx_len, fitting_batch_tokens
    from saetools.harvest.job import Job, resolve_hooks
    from saetools.harvest.options import options_of
    from saetools.harvest.plan import plan_harvest

    settings = run.plan("harvest")
    block, model = run.config.harvest, run.model
    job = Job(
        model,
        for_model(run.corpus, model),
        resolve_hooks(model, block.hook_names),
        block.dtype,
        min(block.ctx_len or default_ctx_len(model), model.ctx_len),
        block.batch_tokens,
        block.n_tokens,
        block.held_out_fraction,
        run.config.seed,
        options_of(_options(run)),
    )
    job.check()
    if job.batch_tokens == "auto":
        job = job._replace(batch_tokens=fitting_batch_tokens(job))
    plan = plan_harvest(job, run.product("harvest"))
    rows = {
        "documents": plan.n_docs,
        "tokens": plan.n_tokens,
        "bytes on disk": plan.n_bytes,
        "bytes free": plan.free_bytes,
        "fits": plan.fits,
        "batch_tokens": plan.batch_tokens,
        "tokens a second": plan.tokens_per_second,
        "seconds": plan.seconds,
    }
    table = [{"predicted": name, "value": value} for name, value in rows.items()]
    return replace(settings, table=table)


def _options(run: RunFolder) -> dict[str, Any]:
    return run.config.harvest.model_dump(include=set(_OPTIONS))


def _precision_error(store: "ActivationStore") -> float | None:
    """Share of the variance that the precision on disk lost; None where it was not measured."""
    lost: float | None = store.manifest.get("precision_error", {}).get(store.hook_name)
    return lost


def run_harvest(run: RunFolder, *, resume: bool = True) -> Outcome:
    """Harvest a run's activations; a complete store of the same settings is kept."""
    from saetools.harvest import harvest  # heavy: torch, h5py
    from saetools.harvest.distributed import shards_of
    from saetools.harvest.outliers import n_dropped
    from saetools.processes import use_own_gpu, world

    block, path = run.config.harvest, run.product("harvest")
    done_before = resume and run.up_to_date("harvest")
    use_own_gpu()
    first = world().rank == 0  # the first of many processes keeps the run folder's books
    with run.stage("harvest") if first else nullcontext():
        model, corpus = run.model, run.corpus
        hook_names = [model.resolve(name) for name in block.hook_names]
        if not resume and first:
            for old in (path, *shards_of(path)):
                old.unlink(missing_ok=True)
        was_there = path.exists()
        try:
            store = harvest(
                model,
                corpus,
                hook_name=hook_names,
                out=path,
                n_tokens=block.n_tokens,
                dtype=block.dtype,
                ctx_len=block.ctx_len,
                batch_tokens=block.batch_tokens,
                held_out_fraction=block.held_out_fraction,
                seed=run.config.seed,
                filter=block.filter,
                **_options(run),
            )
        except ConfigError:
            if not was_there:
                path.unlink(missing_ok=True)  # settings that cannot work: nothing to resume
            raise
    with store:
        figures = {
            "model": f"{model.name} ({model.kind}, d_model {model.d_model})",
            "corpus": f"{corpus.name} ({len(corpus):,} documents)",
            "hook": ", ".join(hook_names),
            "d_in": store.d_in,
            "tokens": store.n_tokens,
            "held-out tokens": store.n_rows("held_out"),
            "bytes": path.stat().st_size,
            "dtype": store.dtype,
            "precision error": _precision_error(store),
            "special tokens": store.manifest["special_tokens"],
        }
        if block.max_norm_multiple is not None:
            figures["outliers dropped"] = n_dropped(path)
    title = "activations were there already" if done_before else "harvested"
    return Outcome(title, figures, wrote=(path,), next=f"saetools train {run.path}")
