"""`saetools erase`: fit an eraser, save it, and say what fresh probes still read."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from saetools.cli.find import open_run
from saetools.cli.options import Device, Json, Out, Overrides, Quiet, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError, UnknownNameError, nearest

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    from saetools.erase import Eraser, Tokens
    from saetools.evaluate.erased_texts import PlaceReading

__all__ = ["command", "run_erase"]

_FORMAT = "saetools-erasure/1"
_HELD_OUT = 0.5


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    eraser: Annotated[
        str, typer.Option("--eraser", help="Which eraser: leace, zero, clamp, itd, ...")
    ] = "leace",
    concept: Annotated[
        str | None, typer.Option("--concept", help="Label of the corpus that is to be erased.")
    ] = None,
    forget: Annotated[
        Path | None,
        typer.Option("--forget", help="File of texts with the concept; of a .txt one a line."),
    ] = None,
    retain: Annotated[
        Path | None, typer.Option("--retain", help="File of texts without it.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of the eraser, KEY=VALUE; repeatable."),
    ] = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit an eraser for a concept, save it, and ask fresh probes what can still be read.

    The concept is a label of the corpus, or two files of texts. The eraser is fitted at the run's
    hook on training documents (of files, on half of the texts); probes are fitted and tested on the
    others, with the eraser at work and without. Writes the folder eraser/ and erasure.json.

    \b
    Examples:
      saetools erase runs/demo --concept turtle
      saetools erase runs/demo --concept email --eraser clamp --set multiple=2
      saetools erase runs/demo --forget sports.txt --retain others.txt --eraser itd
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    if (concept is None) == (forget is None) or (forget is None) != (retain is None):
        raise ConfigError(
            "give --concept LABEL to erase a label of the corpus, or both --forget FILE and "
            "--retain FILE"
        )
    with view.progress():
        outcome = run_erase(
            folder, eraser, concept=concept, files=(forget, retain), settings=settings or ()
        )
    view.show(outcome)


class _Texts(NamedTuple):
    """Texts to fit on and to test on, with the concept and without."""

    fit: tuple[list[str], list[str]]
    test: tuple[list[str], list[str]]


def run_erase(
    run: RunFolder,
    name: str,
    *,
    concept: str | None = None,
    files: tuple[Path | None, Path | None] = (None, None),
    settings: Sequence[str] = (),
) -> Outcome:
    """Fit one eraser on a run's model, save it, and measure it."""
    # heavy: torch
    from saetools.erase import ERASERS, fit_eraser
    from saetools.evaluate.erased_texts import read_erasure
    from saetools.repro import write_json

    kind, config = ERASERS.get(name), _parsed(settings)
    path, hook = run.product("erase"), run.config.harvest.hook_names[0]
    with run.stage("erase"):
        texts = _of_label(run, concept) if concept is not None else _of_files(run, files)
        ctx_len, tokens = run.config.harvest.ctx_len, _tokens(run)
        fitted = fit_eraser(
            name, run.model, forget=texts.fit[0], retain=texts.fit[1], hook_name=hook,
            sae=run.sae() if kind.needs_sae else None, tokens=tokens, ctx_len=ctx_len, **config,
        )  # fmt: skip
        readings = read_erasure(
            run.model, fitted, forget=texts.test[0], retain=texts.test[1], tokens=tokens,
            ctx_len=ctx_len, seed=run.config.seed,
        )  # fmt: skip
        fitted.save(path)
        record = run.path / "erasure.json"
        write_json(record, _record(fitted, readings, concept, tokens))
    return Outcome(
        title=f"fitted {name} at {fitted.hook_name}, to erase {concept or files[0]}",
        figures={
            "tokens": "all, special ones too" if tokens == "all" else "the text's own",
            "texts of the fit": f"{len(texts.fit[0]):,} and {len(texts.fit[1]):,}",
            "texts of the probes": f"{len(texts.test[0]):,} and {len(texts.test[1]):,}",
        },
        table=[
            {
                "where": reading.place,
                "probe": reading.probe,
                "before": str(reading.before),
                "erased": str(reading.after),
                "at chance": reading.after.at_chance,
            }
            for reading in readings
        ],
        text=f"{fitted.report}\n{_verdict(readings)}",
        wrote=(path, record),
    )


def _verdict(readings: "Sequence[PlaceReading]") -> str:
    read = [f"{r.place}, {r.probe}" for r in readings if not r.after.at_chance]
    if not read:
        return "no fresh probe reads the concept above chance (balanced accuracy 0.5)"
    return f"the concept can still be read ({'; '.join(read)}): it was weakened, not removed"


def _record(
    eraser: "Eraser", readings: "Sequence[PlaceReading]", concept: str | None, tokens: str
) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "concept": concept,
        "tokens": tokens,
        "report": eraser.report.as_json(),
        "readings": [asdict(reading) for reading in readings],
    }


def _tokens(run: RunFolder) -> "Tokens":
    """A text encoder's special tokens carry the topic past an edit that leaves them alone."""
    return "all" if run.model.kind == "text_encoder" else "content"


def _parsed(settings: Sequence[str]) -> dict[str, Any]:
    import yaml  # 20 ms that --help need not pay

    found = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes KEY=VALUE, e.g. n_latents=8; got {setting!r}")
        found[key] = yaml.safe_load(value)
    return found


def _of_label(run: RunFolder, concept: str) -> _Texts:
    """Training and held-out documents with a label and without, at most concept.n_docs of each."""
    with run.store() as store:
        labels, held = store.labels, store.held_out.tolist()
    known = sorted({label for label in labels if label is not None})
    if concept not in known:
        raise UnknownNameError(
            f"no document of the run has the label {concept!r}; nearest: "
            f"{', '.join(nearest(concept, known)) or 'there are no labels'}"
        )
    most = run.config.concept.n_docs
    documents = list(zip(run.corpus, labels, held, strict=False))

    def chosen(*, own: bool, test: bool) -> list[str]:
        found = [d.text for d, label, out in documents if (label == concept) == own and out == test]
        return _spread(found, most)

    return _Texts(
        (chosen(own=True, test=False), chosen(own=False, test=False)),
        (chosen(own=True, test=True), chosen(own=False, test=True)),
    )


def _of_files(run: RunFolder, files: tuple[Path | None, Path | None]) -> _Texts:
    """Half of each file's texts to fit on, half to test on."""
    from saetools.corpus import held_out, load_corpus  # heavy: numpy, datasets

    sides = []
    for file in files:
        corpus = load_corpus({"type": "files", "path": str(file), "split": "line"})
        texts = list(dict.fromkeys(document.text for document in corpus))
        test = held_out(len(texts), fraction=_HELD_OUT, seed=run.config.seed)
        most = run.config.concept.n_docs
        parts = [[t for t, out in zip(texts, test, strict=True) if out == side] for side in (0, 1)]
        sides.append([_spread(part, most) for part in parts])
    forget, retain = sides
    return _Texts((forget[0], retain[0]), (forget[1], retain[1]))


def _spread(texts: list[str], most: int | None) -> list[str]:
    """At most so many texts, at equal distances."""
    if most is None or len(texts) <= most:
        return texts
    return [texts[i * len(texts) // most] for i in range(most)]
