"""The index of latents, index.h5: made by the first command that needs it."""

from typing import TYPE_CHECKING

from saetools.cli.output import Outcome
from saetools.cli.run import RunFolder

if TYPE_CHECKING:  # torch stays out of `--help`; a type only
    from saetools.analysis import LatentIndex

__all__ = ["ensure_index", "run_index"]


def ensure_index(run: RunFolder) -> "LatentIndex":
    """Load a run's index; make it first if it is missing, or was made with other settings."""
    if not run.up_to_date("index"):
        run_index(run)
    return run.index()


def run_index(run: RunFolder) -> Outcome:
    """Index a run's latents: firing rates, strongest examples, how well each tells labels."""
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
        )
    figures = {"latents": index.n_latents, "live": len(index.live), "labels": len(index.labels)}
    return Outcome("indexed", figures, wrote=(path,), next=f"saetools name {run.path}")
