"""`saetools harvest`: the subject model's activations on the corpus, into acts.h5."""

from saetools.cli.find import open_run
from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Resume, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

__all__ = ["command", "run_harvest"]


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
    out for honest numbers.

    \b
    Examples:
      saetools harvest configs/tiny/tiny_topk.yaml
      saetools harvest run.yaml harvest.hook_name=resid_post.3
      saetools harvest run.yaml --out runs/other --device cuda
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    with view.progress():
        outcome = folder.plan("harvest") if dry_run else run_harvest(folder, resume=resume)
    view.show(outcome)


def run_harvest(run: RunFolder, *, resume: bool = True) -> Outcome:
    """Harvest a run's activations; a complete store of the same settings is kept."""
    from saetools.harvest import harvest  # heavy: torch, h5py

    block, path = run.config.harvest, run.product("harvest")
    done_before = resume and run.up_to_date("harvest")
    with run.stage("harvest"):
        model, corpus = run.model, run.corpus
        hook_name = model.resolve(block.hook_name)
        if not resume:
            path.unlink(missing_ok=True)
        was_there = path.exists()
        try:
            store = harvest(
                model,
                corpus,
                hook_name=hook_name,
                out=path,
                n_tokens=block.n_tokens,
                dtype=block.dtype,
                ctx_len=block.ctx_len,
                batch_tokens=block.batch_tokens,
                held_out_fraction=block.held_out_fraction,
                seed=run.config.seed,
            )
        except ConfigError:
            if not was_there:
                path.unlink(missing_ok=True)  # settings that cannot work: nothing to resume
            raise
    with store:
        figures = {
            "model": f"{model.name} ({model.kind}, d_model {model.d_model})",
            "corpus": f"{corpus.name} ({len(corpus):,} documents)",
            "hook": hook_name,
            "d_in": store.d_in,
            "tokens": store.n_tokens,
            "held-out tokens": store.n_rows("held_out"),
            "bytes": path.stat().st_size,
        }
    title = "activations were there already" if done_before else "harvested"
    return Outcome(title, figures, wrote=(path,), next=f"saetools train {run.path}")
