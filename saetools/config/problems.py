"""Validation errors as sentences: the dotted key, the value found, what is allowed."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from saetools.errors import ConfigError, nearest

__all__ = ["Problem", "problems", "validate"]

M = TypeVar("M", bound=BaseModel)

Key = tuple[str | int, ...]

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_OUT_OF_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


class Problem(NamedTuple):
    """One thing that is wrong with a setting."""

    key: Key
    text: str

    @property
    def dotted(self) -> str:
        """The key as a user writes it, e.g. `sae.k`."""
        return ".".join(str(word) for word in self.key)


def validate(model: type[M], values: Mapping[str, Any], *, what: str) -> M:
    """Build a config model from plain values.

    Args:
        model: the pydantic model to build.
        values: its fields.
        what: what the message calls the thing, e.g. "SAE architecture 'topk'".

    Raises:
        ConfigError: one message with every problem: key, value, allowed range or nearest key.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        found = problems(error, model)
        lines = "; ".join(f"{p.dotted}{p.text}" if p.key else p.text for p in found)
        raise ConfigError(f"{what}: {lines}") from error


def problems(error: ValidationError, model: type[BaseModel], *, prefix: Key = ()) -> list[Problem]:
    """Spell out every error that pydantic found, keys prefixed by `prefix`."""
    return [
        Problem((*prefix, *detail["loc"]), _sentence(detail, model))
        for detail in error.errors(include_url=False)
    ]


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, value, loc = detail["type"], detail["input"], detail["loc"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(str(loc[-1]), _model_at(model, loc[:-1]))
    field = _field_at(model, loc)
    if kind == "missing":
        says = f"; {field.description}" if field is not None and field.description else ""
        return f": is missing{says}"
    if kind in _OUT_OF_RANGE:
        return f" = {value!r} is out of range; allowed: {_range(field, context)}"
    if kind == "literal_error":
        return f" = {value!r} is not one of {context['expected']}"
    if kind == "value_error":
        return f": {context['error']}"
    if kind in ("model_type", "dict_type"):
        return f" = {value!r} is not a block of keys"
    if kind == "string_pattern_mismatch":
        says = f" ({field.description})" if field is not None and field.description else ""
        return f" = {value!r} does not fit the pattern {context['pattern']}{says}"
    if kind in ("string_too_short", "too_short"):
        return f" = {value!r} must not be empty"
    return f" = {value!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _unknown(word: str, model: type[BaseModel] | None) -> str:
    known = sorted(model.model_fields) if model is not None else []
    if not known:
        return ": unknown key; none is allowed here"
    return (
        f": unknown key; did you mean '{nearest(word, known, n=1)[0]}'? Known: {', '.join(known)}"
    )


def _range(field: FieldInfo | None, context: Mapping[str, Any]) -> str:
    bounds = [
        f"{sign} {getattr(mark, name)}"
        for mark in (field.metadata if field is not None else ())
        for name, sign in _BOUNDS.items()
        if getattr(mark, name, None) is not None
    ]
    if not bounds:
        bounds = [f"{sign} {context[name]}" for name, sign in _BOUNDS.items() if name in context]
    return " and ".join(bounds)


def _model_at(model: type[BaseModel], loc: Key) -> type[BaseModel] | None:
    here: type[BaseModel] | None = model
    for word in loc:
        field = here.model_fields.get(str(word)) if here is not None else None
        here = _inner_model(field.annotation) if field is not None else None
    return here


def _field_at(model: type[BaseModel], loc: Key) -> FieldInfo | None:
    parent = _model_at(model, loc[:-1]) if loc else None
    return parent.model_fields.get(str(loc[-1])) if parent is not None else None


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
