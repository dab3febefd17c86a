"""Numbers out of settings that somebody else wrote."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saetools.errors import FormatError

__all__ = ["whole"]


def whole(settings: Mapping[str, Any], key: str, *, where: Path) -> int:
    """A whole number from 1 under `key`.

    Raises:
        FormatError: it is missing or anything else; the message has what was found.
    """
    found = settings.get(key)
    if type(found) is not int or found < 1:
        raise FormatError(
            f"{where} should give a whole number from 1 for '{key}', it has {found!r:.60}; "
            "the file is damaged or of another tool"
        )
    return found
