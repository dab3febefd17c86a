"""`saetools explore`: everything known about a run's latents on one page, report.html."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from saetools.cli.find import open_run
from saetools.cli.index import ensure_index
from saetools.cli.options import DryRun, Json, Overrides, Quiet, Run
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

__all__ = ["command", "run_explore"]

Html = Annotated[
    bool, typer.Option("--html", help="One self-contained HTML page; what is made anyway.")
]
PageOut = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Where the page goes, instead of the run's report.html.", metavar="FILE"
    ),
]


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    html: Html = True,  # noqa: ARG001 - says what a reader of the command line should expect
    out: PageOut = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page: figures, concepts, and every latent with its examples.

    The page needs no network and no server; open it in a browser. It has a table of latents, a map
    and some texts token by token, and shows what the run has: the evaluation, names, scores and
    ablation where those commands were run before. Names that you edit in it are kept in the
    browser; it exports them as a CSV for `saetools name RUN --namer manual naming.path=names.csv`.

    In Jupyter, `saetools.explore(index, ...)` shows the same as a widget that reads any text.

    \b
    Examples:
      saetools explore runs/demo
      saetools explore runs/demo --html --out latents.html
      saetools explore runs/demo index.n_examples=20
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides)
    with view.progress():
        outcome = folder.plan("explore") if dry_run else run_explore(folder, out=out)
    view.show(outcome)


def run_explore(run: RunFolder, *, out: Path | None = None) -> Outcome:
    """Build a run's page from everything that is finished in its folder."""
    # heavy: torch, h5py
    from saetools.evaluate import ConceptAblationReport, EvaluationReport
    from saetools.explore import explore
    from saetools.naming import NamesTable
    from saetools.naming.scores import ScoreTable

    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name the file that the page should go to")
    index, path = ensure_index(run), out or run.product("explore")
    metrics = run.path / "metrics.jsonl"
    evaluation = run.load_if_finished("evaluate", EvaluationReport.load)
    names = run.load_if_finished("name", NamesTable.load)
    scores = run.load_if_finished("score", ScoreTable.load)
    ablation = run.load_if_finished("ablate", ConceptAblationReport.load)
    # A page elsewhere is no result of the run.
    with run.stage("explore") if out is None else nullcontext():
        page = explore(
            index,
            names=names,
            scores=None if scores is None else scores.columns(index.n_latents),
            sae=run.sae(),
            evaluation=evaluation,
            training=metrics if metrics.exists() else None,
            ablation=ablation,
            title=run.config.name,
            out=path,
        )
    parts = {"evaluation": evaluation, "names": names, "scores": scores, "ablation": ablation}
    figures = {"latents": page.n_latents, "bytes": page.n_bytes}
    lacks = [name for name, part in parts.items() if part is None]
    absent = f"; without {', '.join(lacks)}: not run, or not since the SAE changed" if lacks else ""
    text = f"{page.n_bytes / 1e6:.1f} MB in one file, nothing else needed{absent}"
    return Outcome("page written", figures, text=text, wrote=(path,), next=f"open {path}")
