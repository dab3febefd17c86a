"""`saetools config`: show, check and explain the settings of a run; writes nothing."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, get_args

import typer

from saetools.cli.find import open_run
from saetools.cli.options import Json, Overrides, Run
from saetools.cli.output import Outcome, View

if TYPE_CHECKING:  # types only: `--help` must not pay for pydantic (0.2 s)
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

__all__ = ["COMMANDS"]


def show(run: Run, overrides: Overrides = None, as_json: Json = False) -> None:
    """Print the run as it would be used: base and overrides applied, defaults filled in.

    \b
    Examples:
      saetools config show configs/tiny/tiny_topk.yaml
      saetools config show runs/demo sae.k=64
    """
    config = open_run(run, overrides).config
    typer.echo(json.dumps(config.model_dump(mode="json")) if as_json else config.dump(), nl=as_json)


def check(run: Run, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check every setting, those of the plug-ins included; exit code 1 if one is wrong.

    \b
    Examples:
      saetools config check run.yaml
      saetools config check run.yaml sae.type=matryoshka
    """
    folder = open_run(run, overrides)
    title = f"{run} is a valid run; it would be written to {folder.path}"
    View(as_json).show(Outcome(title, next=f"saetools harvest {run}"))


def schema(as_json: Json = False) -> None:
    """List every setting of a run with its meaning and default; --json gives a JSON schema.

    The keys below `data`, `sae`, `train` and `naming` are those of the plug-in that `type` names.

    \b
    Examples:
      saetools config schema
      saetools config schema --json > run.schema.json
    """
    from saetools.config import RunConfig  # 0.2 s: pydantic

    if as_json:
        typer.echo(json.dumps(RunConfig.model_json_schema()))
        return
    View().show(Outcome("settings of a run", table=list(_rows(RunConfig, ""))))


COMMANDS: dict[str, Callable[..., None]] = {"show": show, "check": check, "schema": schema}


def _rows(model: "type[BaseModel]", prefix: str) -> Iterator[dict[str, Any]]:
    # 0.2 s: pydantic
    from pydantic import BaseModel

    from saetools.config import Block

    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Block:
            yield from _rows(kind, f"{prefix}{name}.")
        else:
            row = {"key": prefix + name, "default": _default(field), "meaning": field.description}
            yield row


def _default(field: "FieldInfo") -> str:
    from pydantic import BaseModel  # 0.2 s

    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        value = value.model_dump()
    choices = [str(word) for word in get_args(field.annotation) if isinstance(word, str)]
    return f"{json.dumps(value)}" + (f" of {', '.join(choices)}" if choices else "")
