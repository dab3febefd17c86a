"""`saetools index`: what each latent fires on, into index.h5; made by whoever needs it first."""

from dataclasses import replace
from typing import TYPE_CHECKING

from saetools.cli.find import open_run
from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Resume, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder

if TYPE_CHECKING:  # torch stays out of `--help`; a type only
    from saetools.analysis import LatentIndex

__all__ = ["command", "ensure_index", "run_index"]


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
    """Index what each latent fires on.

    Writes index.h5: of each latent its rate, histogram, strongest and typical contexts, the words
    it fires on, before and after, latents that are near by decoder and that fire with it, labels
    that it tells (AUROC, with Benjamini-Hochberg q values), next tokens that it speaks for
    (language models), parents and children (Matryoshka), and every activation by document and
    place. All that names may come from is of training documents.

    Finished pieces lie in index.h5.work until the end: what was stopped goes on from there.
    `saetools name` does this too, where it has not been done.

    \b
    Examples:
      saetools index runs/demo
      saetools index runs/demo index.n_examples=20 index.window=16
      saetools index runs/demo --dry-run
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    with view.progress():
        outcome = _plan(folder) if dry_run else run_index(folder, resume=resume)
    view.show(outcome)


def ensure_index(run: RunFolder) -> "LatentIndex":
    """Load a run's index; make it first if it is missing, of an older format or other settings."""
    from saetools.analysis.index_file import made_from  # heavy: torch, h5py

    if not run.up_to_date("index") or made_from(run.product("index")) is None:
        run_index(run)
    return run.index()


def run_index(run: RunFolder, *, resume: bool = True) -> Outcome:
    """Index a run's latents; a finished index of the same settings is kept."""
    from saetools.analysis import index_latents  # heavy: torch, h5py

    block, path = run.config.index, run.product("index")
    with run.stage("index"), run.store() as store:
        index = index_latents(
            run.sae(),
            store,
            model=run.model,
            n_examples=block.n_examples,
            window=block.window,
            seed=run.config.seed,
            out=path,
            resume=resume,
        )
    figures = {
        "latents": index.n_latents,
        "live": len(index.live),
        "tokens": index.n_tokens,
        "activations": int(index.stats.n_fired.sum()),
        "labels": len(index.labels),
        "logit lens": index.logits is not None,
        "levels": len(index.widths) or None,
        "bytes": path.stat().st_size,
    }
    return Outcome("indexed", figures, wrote=(path,), next=f"saetools name {run.path}")


def _plan(run: RunFolder) -> Outcome:
    """What would be done, and what room it takes where that is known."""
    outcome = run.plan("index")
    if not (run.finished("harvest") and run.finished("train")):
        return outcome
    from saetools.analysis import room_for  # heavy: torch, h5py

    with run.store() as store:
        n_tokens, k = store.n_tokens, getattr(run.sae().config, "k", None)
    room = {} if k is None else {"bytes of room until it is done": room_for(n_tokens, k)}
    return replace(outcome, figures={**outcome.figures, "tokens": n_tokens, **room})
