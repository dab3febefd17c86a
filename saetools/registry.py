"""One file per plug-in: a registry finds plug-ins by file name and imports only the one asked for.

`names()` lists the module files of a package without importing them, plus what this process has
registered itself (a notebook cell), plus installed entry points. `get(name)` imports that one
module, whose decorator fills the table.
"""

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from saetools.errors import ConfigError, UnknownNameError, nearest

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Plug-ins of one kind, found by name.

    Args:
        kind: what a plug-in is called in messages, e.g. "SAE architecture".
        package: package whose modules are the plug-ins, e.g. "saetools.sae.archs".
        group: entry-point group through which installed packages add theirs.
    """

    def __init__(self, kind: str, *, package: str, group: str) -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._table: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds its target under `name`.

        Running the same notebook cell twice replaces the entry; the same name from another module
        is a ConfigError.
        """

        def add(target: T) -> T:
            held = self._table.get(name)
            if held is not None and _home(held) != _home(target):
                raise ConfigError(
                    f"two plug-ins want to be the {self.kind} '{name}': {_home(held)} holds the "
                    f"name, {_home(target)} asks for it; rename one of them"
                )
            self._table[name] = target
            return target

        return add

    def names(self) -> list[str]:
        """Names of all known plug-ins, sorted; imports none of them."""
        files = set(self._module_names())
        outside = {point.name for point in entry_points(group=self._group)}
        return sorted(files | outside | set(self._table))

    def get(self, name: str) -> T:
        """Return the plug-in called `name`, importing its file if need be.

        Raises:
            UnknownNameError: no plug-in has this name; the message has the nearest ones.
        """
        if name not in self._table:
            if name in self._module_names():
                importlib.import_module(f"{self._package}.{name}")
            else:
                for point in entry_points(group=self._group, name=name):
                    point.load()
        try:
            return self._table[name]
        except KeyError:
            known = self.names()
            guess = nearest(name, known, n=1)
            hint = f"did you mean '{guess[0]}'? " if guess else ""
            raise UnknownNameError(
                f"no {self.kind} named '{name}'; {hint}Known: {', '.join(known)}"
            ) from None

    def _module_names(self) -> list[str]:
        package = importlib.import_module(self._package)
        return [m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_"]


def _home(target: object) -> str:
    return str(getattr(target, "__module__", type(target).__module__))
