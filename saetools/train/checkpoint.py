"""Checkpoints: the whole training state in safetensors files, replaced atomically.

A run that is resumed from one takes the same steps as a run that was never stopped, to the bit.

A state that processes hold in slices is a file a process. Their names say the step, and a set is
used only if it is complete, so that a kill between two files costs nothing; the older set goes when
the newer one is there. Any number of processes can read a set: each takes the rows that are its.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from saetools.errors import ConfigError, FormatError
from saetools.train.state import TrainState

__all__ = [
    "FORMAT",
    "checkpoint_path",
    "load_checkpoint",
    "newest_checkpoint",
    "remove_checkpoints",
    "save_checkpoint",
]

FORMAT = "saetools-checkpoint/2"

_NUMBERS = ("n_steps_done", "hint", "threshold_ema", "sparsity")
_WHOLE = "checkpoint.safetensors"
_SLICE = re.compile(r"checkpoint\.step(\d+)\.rank(\d+)-of-(\d+)\.safetensors")


def checkpoint_path(folder: Path, state: TrainState) -> Path:
    """Where this process writes its part of the state."""
    latents = state.latents
    if latents.size == 1:
        return folder / _WHOLE
    name = f"rank{latents.rank:05}-of-{latents.size:05}.safetensors"
    return folder / f"checkpoint.step{state.n_steps_done:09}.{name}"


def newest_checkpoint(folder: Path) -> list[Path]:
    """The files of the newest complete checkpoint, in the order of their latents; or none."""
    sets: dict[tuple[int, int], dict[int, Path]] = {}
    for path, (step, rank, size) in _slices(folder):
        sets.setdefault((step, size), {})[rank] = path
    complete = [key for key, files in sets.items() if len(files) == key[1]]
    whole = folder / _WHOLE
    if complete:
        newest = max(complete)
        if not whole.exists() or _n_steps(whole) < newest[0]:
            return [sets[newest][rank] for rank in range(newest[1])]
    return [whole] if whole.exists() else []


def remove_checkpoints(folder: Path, *, but: Sequence[Path] = ()) -> None:
    """Delete the checkpoints in `folder`, except some."""
    for path in (folder / _WHOLE, *(path for path, _ in _slices(folder))):
        if path not in but:
            path.unlink(missing_ok=True)


def save_checkpoint(path: Path, state: TrainState, *, identity: Mapping[str, Any]) -> None:
    """Write `state`; `identity` says which run it belongs to (config, store, start)."""
    tensors = _tensors(state)
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


def load_checkpoint(
    paths: Path | Sequence[Path], state: TrainState, *, identity: Mapping[str, Any]
) -> None:
    """Bring `state`, fresh from the same SAE, to where the checkpoint was written.

    Args:
        paths: a file, or the files of a set in order.
        state: changed in place; whole, or a slice of the latents.
        identity: of the run that goes on.

    Raises:
        FormatError: not a checkpoint, or damaged.
        ConfigError: a checkpoint of another run; the message says what differs.
    """
    paths = [paths] if isinstance(paths, Path) else list(paths)
    with ExitStack() as stack:
        files = [stack.enter_context(_opened(path)) for path in paths]
        header = json.loads(files[0].metadata()["header"])
        wanted = json.loads(json.dumps(dict(identity), default=str))
        _refuse_other_run(paths[0], header["identity"], wanted)
        rows = state.latents.span(state.sae.config.n_latents)
        split = ("tokens_since_fired", *state.sae.by_latent)
        for name, tensor in _tensors(state).items():
            if name.rpartition(".")[2] in split:
                tensor.copy_(_rows(files, name, rows))
            else:
                tensor.copy_(files[0].get_tensor(name))
    state.optimizer.n_steps_done = int(header["adam_steps"])
    for name in _NUMBERS:
        setattr(state, name, header[name])


def _tensors(state: TrainState) -> dict[str, torch.Tensor]:
    """All tensors of a state by name; those themselves, no copies."""
    tensors = {f"sae.{name}": tensor for name, tensor in state.sae.state_dict().items()}
    tensors |= {f"adam.{name}": moment for name, moment in state.optimizer.state().items()}
    tensors |= {f"average.{name}": total for name, total in (state.average or {}).items()}
    return tensors | {"tokens_since_fired": state.tokens_since_fired}


def _opened(path: Path) -> Any:
    """The file, open and known to be a checkpoint."""
    try:
        file: Any = safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise FormatError(
            f"cannot read the checkpoint {path}: {error}; delete it to start again"
        ) from error
    if (file.metadata() or {}).get("format") != FORMAT:
        raise FormatError(
            f"{path} is no checkpoint of this version ({FORMAT}); delete it to start again"
        )
    return file


def _rows(files: Sequence[Any], name: str, rows: slice) -> torch.Tensor:
    """Rows of a tensor that lies in several files, one after the other."""
    parts, begin = [], 0
    for file in files:
        held = file.get_slice(name)
        length = held.get_shape()[0]
        first, stop = max(rows.start - begin, 0), min(rows.stop - begin, length)
        if first < stop:
            parts.append(held[first:stop])
        begin += length
    return torch.cat(parts)


def _slices(folder: Path) -> list[tuple[Path, tuple[int, int, int]]]:
    """The files of slices in a folder, with step, rank and number of ranks."""
    found = []
    for path in sorted(folder.glob("checkpoint.step*.safetensors")):
        if match := _SLICE.fullmatch(path.name):
            step, rank, size = (int(part) for part in match.groups())
            found.append((path, (step, rank, size)))
    return found


def _n_steps(path: Path) -> int:
    with _opened(path) as file:
        return int(json.loads(file.metadata()["header"])["n_steps_done"])


def _refuse_other_run(path: Path, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differ = sorted(k for k in held.keys() | wanted.keys() if held.get(k) != wanted.get(k))
    if differ:
        what = "; ".join(f"{k}: has {held.get(k)}, asked {wanted.get(k)}" for k in differ)
        raise ConfigError(
            f"{path} is the checkpoint of another run ({what}); restore those settings to go on "
            "with it, or delete it to start again"
        )
