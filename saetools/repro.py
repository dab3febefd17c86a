"""What makes a run repeatable: generators made from a seed, and a stamp of the environment."""

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from saetools.errors import FormatError

__all__ = ["environment", "fingerprint", "generator", "read_json", "write_json"]

_PACKAGES = ("saetools", "torch", "transformers", "transformer_lens", "datasets", "h5py", "triton")


def generator(seed: int, *stream: int | str, device: str = "cpu") -> torch.Generator:
    """Return a torch generator that depends on `seed` and on the named stream, and on nothing else.

    Two streams of one seed (say "init" and "order") are independent of each other.
    """
    digest = hashlib.sha256(repr((seed, *stream)).encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:7], "big"))


def fingerprint(value: Any) -> str:
    """Return a short hash (16 hex digits) of anything that JSON can hold, key order ignored."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def environment(*, seed: int | None = None) -> dict[str, Any]:
    """Versions, device and git commit of this run, for `env.json`."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "n_threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
        "seed": seed,
        "argv": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` to `path` so that a reader sees the old file or the whole new one.

    NaN and infinite numbers, which JSON does not have, become null.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".partial")
    text = json.dumps(_json_ready(value), indent=2, default=str, allow_nan=False)
    scratch.write_text(text + "\n", encoding="utf-8")
    os.replace(scratch, path)
    return path


def read_json(path: str | Path, wanted: str) -> dict[str, Any]:
    """Read a JSON file whose "format" is `wanted`.

    Raises:
        FormatError: it is not JSON, or of another format.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not JSON ({error}); the file is damaged") from error
    found = content.get("format") if isinstance(content, dict) else None
    if not isinstance(content, dict) or found != wanted:
        raise FormatError(
            f"{path} says format {found!r}, but {wanted!r} was asked for; "
            "name a file that this version of saetools wrote"
        )
    return content


def _json_ready(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _json_ready(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(inner) for inner in value]
    return value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
