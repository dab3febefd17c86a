"""The `saetools` command: its commands, and what happens when one of them fails.

Errors that a user can cause print one message and exit with 1; usage errors exit with 2; Ctrl-C
exits with 130. `SAETOOLS_DEBUG=1` shows the traceback of the first kind. A bug of ours always does.
"""

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from saetools.cli import (
    ablate,
    bench,
    compare,
    concept,
    config,
    convert,
    demo,
    doctor,
    erase,
    evaluate,
    explore,
    harvest,
    index,
    name,
    score,
    search,
    steer,
    store,
    testbed,
    train,
    unlearn,
)
from saetools.errors import SaetoolsError

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """Turns the errors of any command into an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the type of `ctx` is private to typer."""
        try:
            return super().invoke(ctx)
        except SaetoolsError as error:
            if os.environ.get("SAETOOLS_DEBUG") == "1":
                raise
            _print_error(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            what = "stopped; what was finished is kept. The same command again goes on from there"
            _print_error(str(error) or what)
            raise typer.Exit(130) from error


app = typer.Typer(
    name="saetools",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Find the concepts that a language model or text encoder has learned, look at them, and act"
        " on them.\n\n"
        "A run is one YAML file. Every command takes it (or the run folder that the first command"
        " made), writes into that folder, and prints the next command. Settings change by"
        " KEY=VALUE: [cyan]saetools train run.yaml sae.k=64[/].\n\n"
        "Start here: [cyan]saetools demo[/] (some minutes on a CPU, no network)."
    ),
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as installed  # 20 ms that --help need not pay

        typer.echo(f"saetools {installed('saetools')}")
        raise typer.Exit


def _help(function: Callable[..., None]) -> str:
    """A command's docstring, each paragraph in one line, so that any terminal can wrap it."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(p if p.startswith("\b") else " ".join(p.split()) for p in paragraphs)


_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Start": {"demo": demo.command, "doctor": doctor.command, "bench": bench.command},
    "Make": {
        "harvest": harvest.command,
        "train": train.command,
        "evaluate": evaluate.command,
        "index": index.command,
        "name": name.command,
        "score": score.command,
    },
    "Look and act": {
        "explore": explore.command,
        "search": search.command,
        "compare": compare.command,
        "steer": steer.command,
        "ablate": ablate.command,
        "erase": erase.command,
        "unlearn": unlearn.command,
        "convert": convert.command,
    },
}
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel, help=_help(_command))(_command)

_config = typer.Typer(no_args_is_help=True, help="Show, check or explain the settings of a run.")
for _name, _command in config.COMMANDS.items():
    _config.command(_name, help=_help(_command))(_command)
app.add_typer(_config, name="config", rich_help_panel="Start")

_store = typer.Typer(no_args_is_help=True, help="Look into a store of activations, check or merge.")
for _name, _command in store.COMMANDS.items():
    _store.command(_name, help=_help(_command))(_command)
app.add_typer(_store, name="store", rich_help_panel="Look and act")

_concept = typer.Typer(no_args_is_help=True, help="Find a concept's latents; classify by latents.")
for _name, _command in concept.COMMANDS.items():
    _concept.command(_name, help=_help(_command))(_command)
app.add_typer(_concept, name="concept", rich_help_panel="Look and act")

_testbed = typer.Typer(no_args_is_help=True, help="A world whose truth is known, and its models.")
for _name, _command in testbed.COMMANDS.items():
    _testbed.command(_name, help=_help(_command))(_command)
app.add_typer(_testbed, name="testbed", rich_help_panel="Start")


def _print_error(message: str) -> None:
    from rich.console import Console  # 40 ms that only a failure pays
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), (message, "red")))


def main() -> None:
    """Entry point of the `saetools` command and of `python -m saetools`."""
    sys.exit(app())
