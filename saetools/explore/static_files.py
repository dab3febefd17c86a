"""The files of `static/`, as text."""

from functools import cache
from importlib.resources import files

__all__ = ["static_text"]


@cache
def static_text(name: str) -> str:
    """One file of `static/`."""
    return files("saetools.explore").joinpath("static", name).read_text(encoding="utf-8")
