"""The only place that opens foreign files."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from saetools.errors import FormatError

__all__ = ["read_json", "read_safetensors", "read_torch"]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"cannot read {path} as JSON: {error}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path} should hold a JSON object; it holds a {type(found).__name__}")
    return found


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file."""
    try:
        found: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"cannot read the weights {path}: {error}") from error
    return found


def read_torch(path: Path) -> dict[str, Any]:
    """Read a dict that torch.save wrote; nothing in it is executed."""
    found = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(found, dict):
        raise FormatError(f"{path} should hold a dict; it holds a {type(found).__name__}")
    return found
