"""Values out of settings that somebody else wrote, each of the kind that it should be."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saetools.errors import FormatError

__all__ = ["number", "text", "whole"]


def whole(settings: Mapping[str, Any], key: str, *, where: Path) -> int:
    """A whole number from 1 under `key`.

    Raises:
        FormatError: it is missing or anything else; the message has what was found.
    """
    found = settings.get(key)
    if type(found) is not int or found < 1:
        raise _wrong(key, found, "a whole number from 1", where)
    return found


def number(settings: Mapping[str, Any], key: str, *, where: Path) -> float | None:
    """A finite number under `key`; None where there is none.

    Raises:
        FormatError: it is anything else.
    """
    found = settings.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _wrong(key, found, "a number", where)
    try:
        value = float(found)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise _wrong(key, found, "a finite number", where)
    return value


def text(settings: Mapping[str, Any], key: str, *, where: Path) -> str | None:
    """A text under `key`; None where there is none.

    Raises:
        FormatError: it is anything else.
    """
    found = settings.get(key)
    if found is not None and not isinstance(found, str):
        raise _wrong(key, found, "a text", where)
    return found


def _wrong(key: str, found: object, wanted: str, where: Path) -> FormatError:
    return FormatError(
        f"{where} should give {wanted} for '{key}', it has {found!r:.60}; the file is damaged or "
        "of another tool"
    )
