"""The SAE folder: config.json, sae.safetensors and a card, written whole or not at all.

Format `saetools-sae/1`, specified in docs/formats.md. Tensors: W_enc (d_in, n_latents), b_enc,
W_dec (n_latents, d_in), b_dec, and threshold where the architecture has one; all float32. This file
knows files and tensors, not architectures.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from saetools.errors import FormatError
from saetools.folders import whole_folder

__all__ = ["FORMAT", "is_own", "read_folder", "read_header", "write_folder"]

FORMAT = "saetools-sae/1"


def write_folder(
    folder: str | Path,
    *,
    tensors: Mapping[str, torch.Tensor],
    fields: Mapping[str, Any],
    meta: Mapping[str, Any],
) -> Path:
    """Write an SAE to `folder`; an SAE folder that is there is replaced, anything else refused."""
    folder = Path(folder)
    header = {"format": FORMAT, **fields, "meta": dict(meta)}
    with whole_folder(folder, mark="config.json", what="an SAE") as scratch:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            scratch / "sae.safetensors",
            metadata={"format": FORMAT},
        )
        text = json.dumps(header, indent=2, default=str)
        (scratch / "config.json").write_text(text + "\n", encoding="utf-8")
        (scratch / "README.md").write_text(_card(fields, meta), encoding="utf-8")
    return folder


def read_folder(
    folder: str | Path,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    """Return the config fields, the meta and the tensors of an SAE folder.

    Raises:
        FormatError: it is no SAE folder, of another format version, damaged, or holds NaN.
    """
    folder = Path(folder)
    fields, meta = read_header(folder)
    path = folder / "sae.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"cannot read the weights {path}: {error}") from error
    for name, tensor in tensors.items():
        if name != "threshold" and not bool(tensor.isfinite().all()):
            raise FormatError(f"{path} holds NaN or infinite numbers in {name}; it is damaged")
    return fields, meta, tensors


def is_own(folder: str | Path) -> bool:
    """Whether a config.json there says that it is an SAE of ours, of whatever version."""
    try:
        header = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return False
    written = header.get("format") if isinstance(header, dict) else None
    return str(written).startswith("saetools-sae/")


def read_header(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the config fields and the meta of an SAE folder; reads no weights.

    Raises:
        FormatError: it is no SAE folder, of another format version, or damaged.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        found = (
            sorted(p.name for p in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
        )
        raise FormatError(
            f"{folder} is not an SAE folder: it has no config.json (found: {found}); "
            "name the folder that `saetools train` wrote"
        )
    try:
        header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not JSON ({error}); the folder is damaged") from error
    written = header.pop("format", None)
    if written != FORMAT:
        newer = "; a newer saetools wrote it" if str(written).startswith("saetools-sae/") else ""
        raise FormatError(
            f"{path} says format {written!r}; this version of saetools reads {FORMAT!r}{newer}"
        )
    return header, header.pop("meta", {})


def _card(config: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    fields = "\n".join(f"| {k} | {v} |" for k, v in config.items())
    origin = "\n".join(f"| {k} | {v} |" for k, v in meta.items())
    return (
        f"# A {config['type']} sparse autoencoder\n\n"
        f"Reads activations of width {config['d_in']} at "
        f"`{meta.get('hook_name', 'an unknown hook')}`; weights are in raw activation units.\n\n"
        f"| field | value |\n|---|---|\n{fields}\n\n"
        f"| origin | value |\n|---|---|\n{origin}\n\n"
        "```python\nimport saetools as st\n\nsae = st.SAE.load('.')\n```\n"
    )
