"""Checkpoints: the whole training state in one safetensors file, replaced atomically.

A run that is resumed from one takes the same steps as a run that was never stopped, to the bit.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from saetools.errors import ConfigError, FormatError
from saetools.train.state import TrainState

__all__ = ["FORMAT", "load_checkpoint", "save_checkpoint"]

FORMAT = "saetools-checkpoint/2"

_NUMBERS = ("n_steps_done", "hint", "threshold_ema", "sparsity")


def save_checkpoint(path: Path, state: TrainState, *, identity: Mapping[str, Any]) -> None:
    """Write `state`; `identity` says which run it belongs to (config, store, start)."""
    tensors = {f"sae.{name}": tensor for name, tensor in state.sae.state_dict().items()}
    tensors |= {f"adam.{name}": moment for name, moment in state.optimizer.state().items()}
    tensors |= {f"average.{name}": total for name, total in (state.average or {}).items()}
    tensors["tokens_since_fired"] = state.tokens_since_fired
    header = {
        "identity": dict(identity),
        "adam_steps": state.optimizer.n_steps_done,
        **{name: getattr(state, name) for name in _NUMBERS},
    }
    scratch = path.with_name(path.name + ".partial")
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        scratch,
        metadata={"format": FORMAT, "header": json.dumps(header)},
    )
    # On the disk before it takes the place of the last one: a power cut loses neither.
    with scratch.open("rb") as written:
        os.fsync(written.fileno())
    os.replace(scratch, path)


def load_checkpoint(path: Path, state: TrainState, *, identity: Mapping[str, Any]) -> None:
    """Bring `state`, fresh from the same SAE, to where the checkpoint was written.

    Raises:
        FormatError: not a checkpoint, or damaged.
        ConfigError: a checkpoint of another run; the message says what differs.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise FormatError(
            f"cannot read the checkpoint {path}: {error}; delete it to start again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise FormatError(
            f"{path} is no checkpoint of this version ({FORMAT}); delete it to start again"
        )
    header = json.loads(metadata["header"])
    _refuse_other_run(path, header["identity"], json.loads(json.dumps(dict(identity), default=str)))
    state.sae.load_state_dict(_part(tensors, "sae."))
    state.optimizer.load(_part(tensors, "adam."), n_steps_done=int(header["adam_steps"]))
    if state.average is not None:
        for name, total in _part(tensors, "average.").items():
            state.average[name].copy_(total)
    state.tokens_since_fired = tensors["tokens_since_fired"].to(state.sae.device)
    for name in _NUMBERS:
        setattr(state, name, header[name])


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _refuse_other_run(path: Path, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differ = sorted(k for k in held.keys() | wanted.keys() if held.get(k) != wanted.get(k))
    if differ:
        what = "; ".join(f"{k}: has {held.get(k)}, asked {wanted.get(k)}" for k in differ)
        raise ConfigError(
            f"{path} is the checkpoint of another run ({what}); restore those settings to go on "
            "with it, or delete it to start again"
        )
