"""`saetools explore`: everything known about a run's latents on one page, report.html."""

from saetools.cli.find import open_run
from saetools.cli.index import ensure_index
from saetools.cli.options import DryRun, Json, Out, Overrides, Quiet, Run
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder

__all__ = ["command", "run_explore"]


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    out: Out = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page: figures, concepts, and every latent with its examples.

    The page needs no network and no server; open it in a browser. It shows what the run has: the
    evaluation, names and ablation where those commands were run before.

    \b
    Examples:
      saetools explore runs/demo
      saetools explore runs/demo index.n_examples=20
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out)
    with view.progress():
        outcome = folder.plan("explore") if dry_run else run_explore(folder)
    view.show(outcome)


def run_explore(run: RunFolder) -> Outcome:
    """Build a run's page from everything that is finished in its folder."""
    # heavy: torch, h5py
    from saetools.evaluate import ConceptAblationReport, EvaluationReport
    from saetools.explore import explore
    from saetools.naming import NamesTable

    index, path = ensure_index(run), run.product("explore")
    metrics = run.path / "metrics.jsonl"
    ablation = run.load_if_finished("ablate", ConceptAblationReport.load)
    names = run.load_if_finished("name", NamesTable.load)
    evaluation = run.load_if_finished("evaluate", EvaluationReport.load)
    with run.stage("explore"):
        page = explore(
            index,
            names=names,
            sae=run.sae(),
            evaluation=evaluation,
            training=metrics if metrics.exists() else None,
            ablation=ablation,
            title=run.config.name,
            out=path,
        )
    parts = {"evaluation": evaluation, "names": names, "ablation": ablation}
    figures = {"latents": page.n_latents, "bytes": page.n_bytes}
    lacks = [name for name, part in parts.items() if part is None]
    text = f"without {', '.join(lacks)}: not run, or not since the SAE changed" if lacks else ""
    return Outcome("page written", figures, text=text, wrote=(path,), next=f"open {path}")
