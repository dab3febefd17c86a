"""Steering files of lm-evaluation-harness, so that any of its tasks measures our steering.

    lm_eval --model steered --model_args pretrained=gpt2,steer_path=dogs.pt --tasks ...

Its model `steered` (lm_eval/models/hf_steered.py) adds coefficient · vector to the output of a
module, or clamps the activation along the vector. A file here is of one hook: with several that
add, every hook of theirs gets the vector of the last. What differs from `saetools.steer`: special
tokens are steered as well.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from saetools.errors import ConfigError, FormatError, UnknownNameError
from saetools.formats.hooks import model_name, to_module_path
from saetools.formats.safety import read_torch
from saetools.sae import SAE

__all__ = ["Action", "write_lm_eval", "write_lm_eval_csv"]

Action = Literal["add", "clamp"]
_COLUMNS = (
    "loader", "action", "sparse_model", "hookpoint", "feature_index", "steering_coefficient",
    "head_index", "sae_id", "description",
)  # fmt: skip


def write_lm_eval(
    sae: SAE,
    strengths: Mapping[int, float],
    path: str | Path,
    *,
    action: Action = "add",
    hookpoint: str | None = None,
) -> Path:
    """Write a `.pt` steering file; it needs no SAE where it is used.

    Args:
        strengths: latent → strength, in units of activation, as `saetools.steer` takes them.
        action: add: x + Σ strength · W_dec[latent]. clamp, of one latent: the part of x − b_dec
            along its decoder row becomes strength, whatever it was.
        hookpoint: path of the module in the Hugging Face base model; found from the SAE's hook name
            and the name of its model by default.

    Raises:
        ConfigError: several latents are to be clamped, or the hook is no module's output.
        UnknownNameError: the dictionary has no such latent.
    """
    path = _checked_path(path, ".pt")
    _check(sae, strengths, action)
    place = hookpoint or _hookpoint(sae)
    rows = sae.W_dec.detach().cpu().float()
    if action == "add":
        vector = sum((s * rows[latent] for latent, s in strengths.items()), torch.zeros(sae.d_out))
        coefficient, bias = 1.0, None
    else:
        ((latent, coefficient),) = strengths.items()
        vector, bias = rows[latent], sae.b_dec.detach().cpu().float()
    entry = {
        "steering_vector": vector.clone(),
        "steering_coefficient": float(coefficient),
        "action": action,
        "bias": None if bias is None else bias.clone(),
        "head_index": None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({place: entry}, path)
    _prove(sae, strengths, path, place, action)
    return path


def write_lm_eval_csv(
    latents: Mapping[int, float],
    path: str | Path,
    *,
    loader: Literal["sparsify", "sae_lens"],
    sparse_model: str,
    hookpoint: str,
    action: Action = "add",
    sae_id: str = "",
    description: str = "",
) -> Path:
    """Write a `.csv` steering file, which names an SAE that the other tool loads.

    Args:
        latents: latent → coefficient; one, as each row of a hook replaces the row before.
        sparse_model: release, repository or folder of the SAE, as that loader takes it.
        hookpoint: path of the module in the Hugging Face base model.

    Raises:
        ConfigError: more or fewer than one latent.
    """
    path = _checked_path(path, ".csv")
    if len(latents) != 1:
        raise ConfigError(
            f"a steering csv was asked for {len(latents)} latents of one hook; lm-eval keeps the "
            "last row of a hook alone, so only one can be written; write_lm_eval sums several"
        )
    ((latent, coefficient),) = latents.items()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(_COLUMNS)
        table.writerow(
            [loader, action, sparse_model, hookpoint, latent, coefficient, "", sae_id, description]
        )
    return path


def _checked_path(path: str | Path, suffix: str) -> Path:
    path = Path(path)
    if path.suffix != suffix:
        raise ConfigError(
            f"the steering file is to be {path}; lm-eval tells files apart by their ends, so its "
            f"name must end in {suffix}"
        )
    return path


def _check(sae: SAE, strengths: Mapping[int, float], action: Action) -> None:
    unknown = [latent for latent in strengths if not 0 <= latent < sae.config.n_latents]
    if unknown or not strengths:
        raise UnknownNameError(
            f"steering was asked for latents {list(strengths)[:8]}; this SAE has latents 0 to "
            f"{sae.config.n_latents - 1}, and at least one is needed"
        )
    if action == "clamp" and len(strengths) != 1:
        raise ConfigError(
            f"{len(strengths)} latents were to be clamped; lm-eval clamps one direction of a hook. "
            "Clamp one, or add several"
        )


def _hookpoint(sae: SAE) -> str:
    hook = sae.target_hook_name or sae.meta.get("hook_name")
    place = None if hook is None else to_module_path(hook, model=model_name(sae) or "")
    if place is None:
        raise ConfigError(
            f"the SAE writes at {hook or 'an unknown hook'}, which is no output of a module that "
            "is known here; give hookpoint=, the path of the module in the base model"
        )
    return place


def _prove(
    sae: SAE, strengths: Mapping[int, float], path: Path, place: str, action: Action
) -> None:
    """Do to made-up activations what lm-eval will do with the file, and what was asked for."""
    x = torch.randn(16, sae.d_out, generator=torch.Generator().manual_seed(0))
    entry = read_torch(path)[place]
    theirs = _steered(x, entry)
    if action == "add":
        latents = torch.tensor(list(strengths))
        values = torch.tensor([float(strengths[int(i)]) for i in latents])
        asked = x + values @ sae.W_dec.detach().cpu().float()[latents]
    else:
        ((latent, strength),) = strengths.items()
        row = sae.W_dec.detach().cpu().float()[latent]
        row, b_dec = row / row.norm(), sae.b_dec.detach().cpu().float()
        asked = x + torch.outer(strength - (x - b_dec) @ row, row)
    off = float((theirs - asked).abs().max())
    if not off <= 1e-4 * max(1.0, float(asked.abs().max())):
        path.unlink()
        raise FormatError(
            f"{path} would steer otherwise than asked for: activations differ by up to {off:.2g}. "
            "This is a bug of saetools: please report it"
        )


def _steered(x: Tensor, entry: Mapping[str, object]) -> Tensor:
    """What lm-eval makes of an activation, from its documentation."""
    vector, value, bias = (entry[k] for k in ("steering_vector", "steering_coefficient", "bias"))
    assert isinstance(vector, Tensor)
    assert isinstance(value, float)
    if entry["action"] == "add":
        return x + value * vector
    assert isinstance(bias, Tensor)
    direction = vector / vector.norm()
    centred = x - bias
    along = (centred * direction).sum(-1, keepdim=True)
    return torch.as_tensor(centred - along * direction + value * direction + bias)
