"""`saetools concept`: find a concept's latents from texts, and classify texts by named latents."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from saetools.cli.concept_bottleneck import run_bottleneck, run_explain
from saetools.cli.concept_find import run_find
from saetools.cli.find import open_run
from saetools.cli.options import Device, Json, Out, Overrides, Quiet, Run, Seed
from saetools.cli.output import View
from saetools.errors import ConfigError

__all__ = ["COMMANDS"]

Pool = Annotated[
    Literal["max", "mean"],
    typer.Option("--pooling", metavar="HOW", help="A text's activation of a latent: max or mean."),
]
Texts = Annotated[
    Path | None,
    typer.Option("--texts", metavar="FILE", help="JSON lines, each a text and its label."),
]


def find(
    run: Run,
    overrides: Overrides = None,
    *,
    positive: Annotated[
        Path | None,
        typer.Option("--positive", metavar="FILE", help="Texts with the concept, one a line."),
    ] = None,
    negative: Annotated[
        Path | None,
        typer.Option("--negative", metavar="FILE", help="Texts without it, one a line."),
    ] = None,
    texts: Texts = None,
    label: Annotated[
        str | None,
        typer.Option("--label", help="A label: of the run's own corpus, or of --texts."),
    ] = None,
    pooling: Pool = "max",
    n_latents: Annotated[
        int, typer.Option("--n-latents", min=1, help="Latents of the sparse probe.")
    ] = 8,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rank the latents by how well they tell texts with a concept from texts without it.

    Texts come from two files, from one file with labels, or from the run's own documents (then no
    model is run). Latents are chosen on a part of the texts; figures are from the others, beside a
    probe of the raw activations. Writes concepts/NAME.json into the run folder.

    \b
    Examples:
      saetools concept find runs/demo --label turtle
      saetools concept find runs/demo --positive sea.txt --negative farm.txt
      saetools concept find runs/demo --texts moods.jsonl.gz --label joy --pooling mean
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    with view.progress():
        outcome = run_find(
            folder,
            positive=positive,
            negative=negative,
            texts=texts,
            label=label,
            pooling=pooling,
            n_latents=n_latents,
        )
    view.show(outcome)


def bottleneck(
    run: Run,
    overrides: Overrides = None,
    *,
    texts: Texts = None,
    min_docs: Annotated[
        int, typer.Option("--min-docs", min=4, help="Labels with fewer texts are left out.")
    ] = 40,
    pooling: Pool = "max",
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Classify texts by a few named latents, and compare with a head on the raw activations.

    Classes are the labels of the run's documents, or of --texts. Latents without a name are not
    used; where the run has no names, all are. Writes the folder bottleneck into the run folder:
    the classifier, and report.json with its held-out accuracy.

    \b
    Examples:
      saetools concept bottleneck runs/demo
      saetools concept bottleneck runs/demo --texts genres.jsonl.gz --min-docs 20
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    with view.progress():
        outcome = run_bottleneck(folder, texts=texts, min_docs=min_docs, pooling=pooling)
    view.show(outcome)


def explain(
    run: Run,
    overrides: Overrides = None,
    *,
    text: Annotated[str, typer.Option("--text", help="Text to classify.")],
    of: Annotated[
        str | None, typer.Option("--of", metavar="CLASS", help="Class to explain.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="CLASS", help="Why not this class.")
    ] = None,
    set_to: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="LATENT=VALUE", help="Predict again with it; repeatable."),
    ] = None,
    out: Out = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say which named latents made the bottleneck's prediction, and what setting one changes.

    \b
    Examples:
      saetools concept explain runs/demo --text "Draw a circle."
      saetools concept explain runs/demo --text "Draw a circle." --set 757=0
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device)
    with view.progress():
        outcome = run_explain(folder, text, of=of, against=against, set_to=_settings(set_to or ()))
    view.show(outcome)


COMMANDS: dict[str, Callable[..., None]] = {
    "find": find,
    "bottleneck": bottleneck,
    "explain": explain,
}


def _settings(words: Sequence[str]) -> dict[int | str, float]:
    """`757=0` or `NAME=VALUE` of each word."""
    found: dict[int | str, float] = {}
    for word in words:
        key, equals, value = word.rpartition("=")
        try:
            if not equals:
                raise ValueError(word)
            found[int(key) if key.strip().isdigit() else key] = float(value)
        except ValueError as error:
            raise ConfigError(
                f"--set {word} is not LATENT=VALUE, such as 757=0 or 'a name'=1.5"
            ) from error
    return found
