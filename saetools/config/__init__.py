"""The settings of a run: strict models, files with a `base`, dotted overrides.

Reads the file it is given (and that file's base), and nothing else: no clock, no environment, no
device. What a plug-in's block means is checked by the floor that owns the plug-in, through
`load_config(schemas=...)`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from saetools.config.models import (
    Block,
    ConceptConfig,
    EvaluateConfig,
    HarvestConfig,
    IndexConfig,
    RunConfig,
    SubjectConfig,
)
from saetools.config.problems import Problem, problems, validate
from saetools.config.source import OVERRIDE, Source, read_source
from saetools.errors import ConfigError, UnknownNameError

__all__ = [
    "Block",
    "ConceptConfig",
    "EvaluateConfig",
    "HarvestConfig",
    "IndexConfig",
    "RunConfig",
    "Schema",
    "SubjectConfig",
    "load_config",
    "validate",
]


class Schema(NamedTuple):
    """How to check a block that config itself keeps as it is written.

    Args:
        model_of: the block's `type` (empty for a block without one) -> the pydantic model of its
            other keys; raises UnknownNameError when there is no such plug-in.
        later: fields of that model which a later step fills in, with a stand-in value for now.
    """

    model_of: Callable[[str], type[BaseModel]]
    later: Mapping[str, Any] = {}


def load_config(
    source: str | Path | Mapping[str, Any],
    *overrides: str,
    schemas: Mapping[str, Schema] | None = None,
) -> RunConfig:
    """Read a run from a YAML file or a mapping, apply `base:` and overrides, and check it.

        config = load_config("configs/tiny/tiny_topk.yaml", "sae.k=16", "train.lr=1e-3")

    Args:
        source: a YAML file, or the same settings as a mapping.
        overrides: dotted settings, values in YAML.
        schemas: how to check the plug-ins' blocks; those blocks come back with defaults filled in.

    Raises:
        ConfigError: one message with every problem found: file, dotted key, value, what is allowed.
    """
    read = read_source(source, overrides)
    values = dict(read.values)
    if isinstance(values.get("name"), str) and not values.get("out"):
        values["out"] = f"runs/{values['name']}"
    found: list[Problem] = []
    for block, schema in (schemas or {}).items():
        values[block] = _resolve(block, values.get(block), schema, found)
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        found = [*problems(error, RunConfig), *found]
    if found:
        raise ConfigError(_message(read, found))
    return config


def _resolve(block: str, written: Any, schema: Schema, found: list[Problem]) -> Any:
    """Check one block by its schema; return it with defaults filled in, or add to `found`."""
    typed = "type" in _block_fields(block)
    if written is None:
        written = RunConfig.model_fields[block].get_default(call_default_factory=True)
        written = written.model_dump() if isinstance(written, BaseModel) else written
    if not isinstance(written, Mapping) or (typed and not isinstance(written.get("type"), str)):
        return written  # RunConfig itself says what is wrong
    own = {key: value for key, value in written.items() if key != "type" or not typed}
    early = [key for key in own if key in schema.later]
    found += [Problem((block, key), ": is known only later; leave it out") for key in early]
    try:
        model = schema.model_of(written["type"] if typed else "")
        if typed and "type" in model.model_fields:
            own["type"] = written["type"]
        checked = model.model_validate({**own, **schema.later})
    except UnknownNameError as error:
        found.append(Problem((block, "type"), f": {error}"))
        return written
    except ValidationError as error:
        found += problems(error, model, prefix=(block,))
        return written
    resolved = checked.model_dump(mode="json", exclude=set(schema.later))
    return {"type": written["type"], **resolved} if typed else resolved


def _block_fields(block: str) -> set[str]:
    kind = RunConfig.model_fields[block].annotation
    return (
        set(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else set()
    )


def _message(read: Source, found: list[Problem]) -> str:
    lines = []
    for problem in found:
        origin = read.origin(problem.key)
        place = "by" if origin == OVERRIDE else "in"
        where = "" if origin == read.name else f" (set {place} {origin})"
        lines.append(f"{problem.dotted or 'the run'}{problem.text}{where}")
    if len(lines) == 1:
        return f"{read.name}: {lines[0]}"
    return f"{read.name}: {len(lines)} problems\n" + "\n".join(f"  - {line}" for line in lines)
