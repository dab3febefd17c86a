"""The eraser folder: eraser.json and eraser.safetensors, written whole or not at all.

Format `saetools-eraser/1`. This file knows files and tensors, not erasers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from saetools.errors import FormatError
from saetools.folders import whole_folder
from saetools.repro import read_json, write_json
from saetools.sae import SAE

__all__ = ["FORMAT", "read_folder", "write_folder"]

FORMAT = "saetools-eraser/1"


def write_folder(
    folder: str | Path,
    *,
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    sae: SAE | None = None,
) -> Path:
    """Write an eraser to `folder`; an eraser that is there is replaced, anything else refused."""
    folder = Path(folder)
    with whole_folder(folder, mark="eraser.json", what="an eraser") as scratch:
        save_file(
            {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()},
            scratch / "eraser.safetensors",
            metadata={"format": FORMAT},
        )
        write_json(scratch / "eraser.json", {"format": FORMAT, **header})
        if sae is not None:
            sae.save(scratch / "sae")
    return folder


def read_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors of an eraser folder.

    Raises:
        FormatError: it is no eraser folder, of another format version, or damaged.
    """
    folder = Path(folder)
    path = folder / "eraser.json"
    if not path.is_file():
        raise FormatError(
            f"{folder} is not an eraser folder: it has no eraser.json; name the folder that "
            "`Eraser.save` or `saetools erase` wrote"
        )
    try:
        written = json.loads(path.read_text(encoding="utf-8")).get("format")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise FormatError(f"{path} is not JSON ({error}); the folder is damaged") from error
    if written != FORMAT:
        newer = "; a newer saetools wrote it" if str(written).startswith("saetools-eraser/") else ""
        raise FormatError(
            f"{path} says format {written!r}; this version of saetools reads {FORMAT!r}{newer}"
        )
    header = read_json(path, FORMAT)
    try:
        tensors = load_file(folder / "eraser.safetensors")
    except (OSError, SafetensorError) as error:
        raise FormatError(
            f"cannot read {folder / 'eraser.safetensors'}: {error}; the folder is damaged"
        ) from error
    return header, tensors
