"""The variant of OpenAI's SAE in concept steering work on text encoders and diffusion models.

    latents = relu of the k largest of (x − pre_bias) @ encoder.weightᵀ + latent_bias
    x_hat = latents @ decoder.weightᵀ + pre_bias

`config.json` has n_dirs_local, d_model and k; `state_dict.pth` the state dict under "state_dict".
Unlike OpenAI's own files nothing is layer-normalised (Concept Steerers 2501.19066,
Interpret-then-Deactivate 2503.09446).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats.base import FORMATS, Foreign, Format, Note, need
from saetools.formats.pre_biased import pre_biased, pre_biased_formula
from saetools.formats.safety import read_json, read_torch
from saetools.formats.settings import whole
from saetools.sae import SAE, Normed

__all__ = ["Steerers"]

_CONFIG, _WEIGHTS = "config.json", "state_dict.pth"
_NAMES = ("encoder.weight", "decoder.weight", "pre_bias", "latent_bias")
_SHAPE = ("n_dirs_local", "d_model")
_SETTINGS = ("auxk", "dead_steps_threshold", "auxk_coef")


@FORMATS.register("steerers")
class Steerers(Format):
    """A folder of the steerers' variant."""

    title = "Concept Steerers / ItD folder"
    files = f"`{_CONFIG}`, `{_WEIGHTS}`"
    holds: ClassVar[Mapping[str, str]] = {
        "topk": "TopK",
        "hierarchical_topk": "TopK",
        "matryoshka": "TopK, where it selects by token",
    }
    keeps = ("reconstruction", "latents", "k")
    loses = ("hook and model name", "widths of Matryoshka", "settings of training")

    def detect(self, path: Path) -> bool:
        """By the names of the files and of the settings."""
        if not (path / _CONFIG).is_file() or not (path / _WEIGHTS).is_file():
            return False
        return {"n_dirs_local", "d_model", "k"} <= set(read_json(path / _CONFIG))

    def read(self, path: Path) -> Foreign:
        """Read a folder."""
        config = read_json(path / _CONFIG)
        held = read_torch(path / _WEIGHTS).get("state_dict")
        if not isinstance(held, dict):
            raise FormatError(
                f"{path / _WEIGHTS} has no state dict under 'state_dict'; the file is damaged or "
                "of another tool"
            )
        need(held, _NAMES, where=path / _WEIGHTS)
        shape = tuple(whole(config, name, where=path / _CONFIG) for name in _SHAPE)
        if held["encoder.weight"].shape != shape:
            raise FormatError(
                f"{path}: the settings say n_dirs_local and d_model are {shape}, the encoder has "
                f"{tuple(held['encoder.weight'].shape)}; the files do not belong together"
            )
        weights: tuple[Tensor, ...] = (
            held["encoder.weight"].T, held["decoder.weight"].T, held["pre_bias"],
            held["latent_bias"],
        )  # fmt: skip
        meta = {name: config[name] for name in _SETTINGS if name in config}
        k = whole(config, "k", where=path / _CONFIG)
        return Foreign(
            pre_biased(*weights, k=k, meta=meta),
            pre_biased_formula(*weights, k=k),
            (Note("hook_name", "not in the files; set sae.meta['hook_name']"),),
        )

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write a folder, float32."""
        kind, state = sae.config.type, sae.state_dict()
        k = getattr(sae.config, "k", None)
        if k is None or "threshold" in state or isinstance(sae, Normed) or kind == "transcoder":
            raise FormatError(
                f"this format holds SAEs that keep the k largest latents of each raw token; this "
                f"is a {kind} SAE of another kind; write it as saelens"
            )
        config = {
            "n_dirs_local": sae.config.n_latents,
            "d_model": sae.config.d_in,
            "k": int(k),
            "auxk": sae.meta.get("auxk"),
            "dead_steps_threshold": sae.meta.get("dead_steps_threshold", 0),
        }
        tensors = {
            "pre_bias": state["b_dec"],
            "latent_bias": state["b_enc"],
            "stats_last_nonzero": torch.zeros(sae.config.n_latents, dtype=torch.long),
            "encoder.weight": state["W_enc_rows"],
            "decoder.weight": state["W_dec"].T,
        }
        path.mkdir(parents=True)
        saved = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        torch.save({"state_dict": saved}, path / _WEIGHTS)
        (path / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        notes = [Note("lost", f"hook_name {sae.meta.get('hook_name')!r}")]
        if len(sae.widths) > 1:
            notes.append(Note("lost", f"widths {list(sae.widths)}"))
        return tuple(notes)
