"""Where settings come from: a YAML file, the file it names as `base`, and dotted overrides."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from saetools.errors import ConfigError

__all__ = ["OVERRIDE", "Source", "read_source"]

OVERRIDE = "an override"

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """Settings as written, and which file (or override) each of them was written in."""

    values: dict[str, Any]
    name: str
    origins: dict[Key, str] = field(default_factory=dict)

    def origin(self, key: Key) -> str:
        """Where `key` was written: itself, the nearest key above it, or all that is below it."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.origins:
                return self.origins[key[:end]]
        below = {place for held, place in self.origins.items() if held[: len(key)] == key}
        return below.pop() if len(below) == 1 else self.name


def read_source(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Source:
    """Read a file or mapping, put it over its `base`, and apply overrides such as `sae.k=64`.

    Mappings merge key by key. A block that names another `type` than its base replaces the base's
    block whole, because the fields of one plug-in mean nothing to another. Everything else
    replaces. A dotted override replaces exactly the key that it names.

    Raises:
        ConfigError: no such file, not YAML, a cycle of bases, or a malformed override.
    """
    if isinstance(source, Mapping):
        values = dict(source)
        read = _with_base(values, name="the mapping given", folder=Path(), chain=())
    else:
        read = _read_file(Path(source), chain=())
    for text in overrides:
        _override(read, text)
    return read


def _read_file(path: Path, *, chain: tuple[Path, ...]) -> Source:
    if path.resolve() in chain:
        walk = " -> ".join(str(p) for p in (*chain, path.resolve()))
        raise ConfigError(f"{path}: its base leads back to itself: {walk}; remove one `base:`")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the config file {path}: {reason}") from error
    values = _parse(text, path)
    return _with_base(values, name=str(path), folder=path.parent, chain=(*chain, path.resolve()))


def _with_base(
    values: dict[str, Any], *, name: str, folder: Path, chain: tuple[Path, ...]
) -> Source:
    values = dict(values)
    base = values.pop("base", None)
    if base is None:
        below = Source({}, name)
    elif isinstance(base, str):
        below = _read_file(folder / base, chain=chain)
    else:
        raise ConfigError(f"{name}: base = {base!r}; it takes the path of one YAML file")
    origins = dict(below.origins)
    merged = _merge(below.values, values, key=(), name=name, origins=origins)
    return Source(merged, name, origins)


def _merge(
    low: Mapping[str, Any], high: Mapping[str, Any], *, key: Key, name: str, origins: dict[Key, str]
) -> dict[str, Any]:
    out = dict(low)
    for word, value in high.items():
        here = (*key, word)
        held = out.get(word)
        if isinstance(value, Mapping) and isinstance(held, Mapping) and _same_type(held, value):
            out[word] = _merge(held, value, key=here, name=name, origins=origins)
        else:
            out[word] = value
            origins[here] = name
    return out


def _same_type(low: Mapping[str, Any], high: Mapping[str, Any]) -> bool:
    return "type" not in high or high["type"] == low.get("type")


def _override(source: Source, text: str) -> None:
    dotted, equals, value = text.partition("=")
    words = dotted.strip().split(".")
    if not equals or not all(words):
        raise ConfigError(
            f"override '{text}' is not of the form key=value; write for example train.lr=1e-3"
        )
    block = source.values
    for depth, word in enumerate(words[:-1]):
        inner = block.get(word)
        if inner is not None and not isinstance(inner, Mapping):
            raise ConfigError(
                f"override '{text}': {'.'.join(words[: depth + 1])} is {inner!r}, not a block of "
                "keys"
            )
        block[word] = block = dict(inner or {})  # a copy: the caller's mapping stays as it was
    block[words[-1]] = _parse_value(value, text)
    source.origins[tuple(words)] = OVERRIDE


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_line(error)}: not valid YAML: {_reason(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: a config file is a mapping of keys to values")
    return values


def _parse_value(value: str, text: str) -> Any:
    try:
        return yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"override '{text}': the value is not valid YAML: {_reason(error)}"
        ) from error


def _line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f", line {mark.line + 1}"


def _reason(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-3` is a number, `no` and `on` are words; a key given twice is an error.

    PyYAML reads YAML 1.1, where a learning rate of 1e-3 is a string and a label `no` is False.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, or refuse the line that gives a key again."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_KEPT = {
    first: [(tag, rule) for tag, rule in rules if not tag.endswith((":bool", ":float"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_implicit_resolvers = _KEPT
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\.\d[\d_]*(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+"
        r"|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)
