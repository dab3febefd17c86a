"""Settings beside weights: JSON and YAML of others, small and plain."""

import json
from pathlib import Path
from typing import Any

import yaml

from saetools.errors import FormatError
from saetools.formats.safety.sizes import file_size

__all__ = ["parse_json", "read_json", "read_yaml"]

_MAX_JSON = 16 * 2**20
_MAX_YAML = 256 * 2**10


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object of at most 16 MiB.

    Raises:
        FormatError: it is larger, not JSON, nested too deeply, has a key twice, or is no object.
    """
    return parse_json(_text(Path(path), limit=_MAX_JSON), where=str(path))


def parse_json(text: bytes, *, where: str) -> dict[str, Any]:
    """Parse a JSON object; `where` names it in messages."""
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise FormatError(f"{where} nests too deeply to be settings; the file is damaged") from None
    except ValueError as error:  # not UTF-8, not JSON, a number of thousands of digits, a key twice
        raise FormatError(f"{where} is not JSON ({error!s:.300}); the file is damaged") from None
    if not isinstance(found, dict):
        raise FormatError(
            f"{where} holds a JSON {type(found).__name__}, an object was expected; "
            "name the settings that belong to the weights"
        )
    return found


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping of at most 256 KiB: plain values, no aliases, no tags of Python objects.

    Raises:
        FormatError: it is larger, not YAML, uses an alias (which can multiply without end), or is
            no mapping.
    """
    path = Path(path)
    text = _text(path, limit=_MAX_YAML)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise FormatError(
                    f"{path} uses the YAML alias '*{event.anchor}'; settings are read without "
                    "aliases, as they can expand without end: write the value out"
                )
        found = yaml.safe_load(text)
    except RecursionError:
        raise FormatError(f"{path} nests too deeply to be settings; the file is damaged") from None
    except (yaml.YAMLError, ValueError) as error:
        raise FormatError(
            f"{path} is not plain YAML ({error!s:.300}); the file is damaged"
        ) from None
    if not isinstance(found, dict):
        raise FormatError(
            f"{path} holds a YAML {type(found).__name__}, a mapping was expected; "
            "name the settings that belong to the weights"
        )
    return found


def _text(path: Path, *, limit: int) -> bytes:
    size = file_size(path)
    if size > limit:
        raise FormatError(
            f"{path} has {size} bytes; settings have at most {limit}, so it was not read; "
            "is it another file?"
        )
    with path.open("rb") as file:
        return file.read(size)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return found
