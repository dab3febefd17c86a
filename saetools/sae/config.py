"""The config that every architecture extends, and its validation with messages for people."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saetools.errors import ConfigError, nearest

__all__ = ["SAEConfig", "validated"]


class SAEConfig(BaseModel):
    """Fields that every architecture has; each adds its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="architecture: a file name in saetools/sae/archs")
    d_in: int = Field(ge=1, description="width of the activation that is read")
    n_latents: int = Field(ge=1, description="size of the dictionary")


C = TypeVar("C", bound=SAEConfig)


def validated(schema: type[C], fields: Mapping[str, Any]) -> C:
    """Build a config from a mapping of fields.

    Raises:
        ConfigError: fields are unknown, missing or out of range; the message lists all of them.
    """
    try:
        return schema.model_validate(dict(fields))
    except ValidationError as error:
        lines = [f"the {fields.get('type')} SAE cannot be built from these fields:"]
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"]) or "fields"
            text = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                guess = nearest(key, schema.model_fields, n=1)
                text = f"no such field; did you mean '{guess[0]}'?"
            lines.append(f"  {key}: {text}")
        raise ConfigError("\n".join(lines)) from error
