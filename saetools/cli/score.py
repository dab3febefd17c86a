"""`saetools score`: how good names are, on documents that no namer saw; into scores.json."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from saetools.cli.find import open_run
from saetools.cli.index import ensure_index
from saetools.cli.name import cache_of, parse_latents
from saetools.cli.options import Device, DryRun, Json, Out, Overrides, Quiet, Run, Seed
from saetools.cli.output import Outcome, View
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # torch stays out of `--help`; types only
    from saetools.naming.chat import Chat
    from saetools.naming.scores import ScoreTable

__all__ = ["command", "run_score"]

_MAX_ANSWER = 400


def command(
    run: Run,
    overrides: Overrides = None,
    *,
    scorers: Annotated[
        str,
        typer.Option("--scorers", help="Scorers, separated by commas.", metavar="NAME[,NAME]"),
    ] = "predicate,observational",
    latents: Annotated[
        str | None,
        typer.Option("--latents", help="A range or list: 0:2000 or 3,7,12.", metavar="RANGE"),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", help="Model of the server, or a local model, that judges.", metavar="MODEL"
        ),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option("--judge-url", help="Server that speaks OpenAI's protocol.", metavar="URL"),
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option("--max-requests", min=1, help="Questions to the judge, at most."),
    ] = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score the names in names.csv on held-out documents, beside names of other latents.

    predicate and observational ask the name's own words; intervention adds and ablates the latent
    in the running model (some seconds a latent); detection, fuzzing and simulation ask a judge.
    Answers of a judge are kept in the run folder and not asked for twice. Writes scores.json.

    \b
    Examples:
      saetools score runs/demo
      saetools score runs/demo --scorers intervention --latents 0:100
      saetools score runs/demo --scorers detection --judge qwen --judge-url http://localhost:8000/v1
    """
    view = View(as_json, quiet)
    folder = open_run(run, overrides, out=out, device=device, seed=seed)
    asked = [name.strip() for name in scorers.split(",") if name.strip()]
    with view.progress():
        if dry_run:
            outcome = folder.plan("score")
        else:
            outcome = run_score(
                folder,
                scorers=asked,
                latents=latents,
                judge=judge,
                judge_url=judge_url,
                max_requests=max_requests,
            )
    view.show(outcome)


def run_score(
    run: RunFolder,
    *,
    scorers: list[str],
    latents: str | None = None,
    judge: str | None = None,
    judge_url: str | None = None,
    max_requests: int | None = None,
) -> Outcome:
    """Score a run's names with some scorers."""
    # heavy: torch
    from saetools.naming import NamesTable
    from saetools.naming.scores import SCORERS, score_names

    index, path = ensure_index(run), run.product("score")
    needs = {part for name in scorers for part in SCORERS.get(name).needs}
    if "chat" in needs and judge is None:
        raise ConfigError(
            f"{', '.join(scorers)}: a judge is needed; give --judge MODEL, with --judge-url if a "
            "server has it, or score by predicate, observational, intervention"
        )
    with run.stage("score"):
        parts: dict[str, Any] = {}
        if "model" in needs:
            parts = {"model": run.model, "sae": run.sae()}
        if "chat" in needs and judge is not None:
            parts["chat"] = _chat(run, judge, judge_url, max_requests)
        table = score_names(
            index,
            NamesTable.load(run.product("name")),
            scorers=scorers,
            latents=None if latents is None else parse_latents(latents),
            seed=run.config.seed,
            **parts,
        )
        table.save(path)
    return Outcome(
        title=f"scored {len({score.latent for score in table}):,} names on held-out documents",
        table=_rows(table),
        wrote=(path,),
        next=f"saetools explore {run.path}",
    )


def _rows(table: "ScoreTable") -> list[dict[str, Any]]:
    return [
        {
            "scorer": row.scorer,
            "mean": row.mean,
            "95 % from": row.low,
            "to": row.high,
            "random name": row.random_name,
            "swapped name": row.swapped_name,
            "F1 by rate": row.weighted_f1,
            "latents": row.n,
            "not scored": ", ".join(f"{n:,} {why}" for why, n in row.left_out.items()) or "none",
        }
        for row in table.summary()
    ]


def _chat(run: RunFolder, model: str, url: str | None, max_requests: int | None) -> "Chat":
    # heavy: torch
    from saetools.naming.chat import Budget, Budgeted, Chat, Patient, Remembered
    from saetools.naming.chat_local import LocalChat
    from saetools.naming.chat_server import ServerChat

    chat: Chat
    if url is not None:
        chat = Patient(ServerChat(url, model, max_answer=_MAX_ANSWER))
    else:
        chat = LocalChat.load(model, device=run.device, max_answer=_MAX_ANSWER)
    key = {"base_url": url, "model": model, "max_answer": _MAX_ANSWER}
    chat = Budgeted(chat, Budget(max_requests), max_answer=_MAX_ANSWER)
    return Remembered(chat, cache_of(run) / "answers", key)
