"""circuit-tracer's per-layer transcoders: `config.yaml` and a `layer_<i>.safetensors` a layer.

    a = x @ W_encᵀ + b_enc               W_enc is (n_latents, d_model) there
    latents: relu(a); a where a > activation_function.threshold; or the k largest a
    x_hat = latents @ W_dec + b_dec (+ x @ W_skipᵀ)

Nothing is taken off the input. Thresholds make the selection JumpReLU, `activation: topk` in
config.yaml makes it TopK, which has no relu: a latent among the k largest that is negative counts.
A folder holds a transcoder for each layer; one is read by the name of its file.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats import formulas
from saetools.formats.base import FORMATS, Foreign, Format, Note, need
from saetools.formats.formulas import Reading
from saetools.formats.hooks import hook_meta, model_name
from saetools.formats.plain import Plain, Rule, plain_of
from saetools.formats.safety import read_safetensors, read_yaml, safetensors_shapes
from saetools.formats.settings import text, whole
from saetools.models.hook_names import layer_of
from saetools.sae import SAE

__all__ = ["CircuitTracer"]

_CONFIG = "config.yaml"
_LAYER = re.compile(r"layer_(?P<layer>\d+)\.safetensors")
_NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")
_THRESHOLD = "activation_function.threshold"
_SET = "transcoder_set"


@FORMATS.register("circuit_tracer")
class CircuitTracer(Format):
    """One layer of a transcoder set: the file, or a folder that has one only."""

    title = "circuit-tracer transcoders"
    files = f"`{_CONFIG}`, `layer_<i>.safetensors`"
    holds: ClassVar[Mapping[str, str]] = {
        "transcoder": "JumpReLU, relu or TopK, with skip or without; d_out as d_in",
    }
    keeps = ("reconstruction", "latents", "hook names", "model name")
    loses = ("k of BatchTopK", "settings of training")

    def detect(self, path: Path) -> bool:
        """By the names of the files, and of the tensors of one of them."""
        if path.is_dir():
            if (path / _CONFIG).is_file() and "model_kind" in read_yaml(path / _CONFIG):
                return True
            files = _layers(path)
            return bool(files) and self.detect(files[0])
        if not path.is_file() or not _LAYER.fullmatch(path.name):
            return False
        return set(_NAMES) <= set(safetensors_shapes(path))

    def read(self, path: Path) -> Foreign:
        """Read one layer."""
        folder = path if path.is_dir() else path.parent
        config = read_yaml(folder / _CONFIG) if (folder / _CONFIG).is_file() else {}
        _check_kind(config, folder)
        file = _one_layer(path)
        held = read_safetensors(file)
        need(held, _NAMES, where=file)
        rule, k = _rule(config, held, file)
        plain = Plain(
            held["W_enc"].T, held["b_enc"], held["W_dec"], held["b_dec"],
            rule=rule, threshold=held.get(_THRESHOLD), k=k,
            W_skip=held.get("W_skip"), transcodes=True,
        )  # fmt: skip
        match = _LAYER.fullmatch(file.name)
        layer = match["layer"] if match else None
        read, notes = hook_meta(
            _hook(config, "input", layer), model=text(config, "model_name", where=folder / _CONFIG)
        )
        written, _ = hook_meta(_hook(config, "output", layer), model=None)
        foreign = plain.foreign(
            meta=read | {"scan": config["scan"]} if "scan" in config else read,
            notes=tuple(notes), target_hook_name=written.get("hook_name"),
        )  # fmt: skip
        return foreign if rule != "top_k" else _signed(foreign, plain)

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write a folder with one layer and its config.yaml, float32."""
        if sae.config.type != "transcoder" or sae.d_out != sae.config.d_in:
            raise FormatError(
                "circuit-tracer puts transcoders in the place of MLPs, which read and write one "
                f"width; this is a {sae.config.type} from width {sae.config.d_in} to {sae.d_out}; "
                "write it as saelens"
            )
        plain, notes = plain_of(sae, title=self.title, rules=("jump", "top_k"), skip=True)
        read, written = (_split(h) for h in (sae.meta.get("hook_name"), sae.target_hook_name))
        layer = read[0] or written[0] or 0
        config: dict[str, Any] = {
            "model_kind": _SET,
            "model_name": model_name(sae),
            "scan": sae.meta.get("scan"),
            "feature_input_hook": read[1],
            "feature_output_hook": written[1],
        }
        tensors = {
            "W_enc": plain.W_enc.T, "b_enc": plain.b_enc, "W_dec": plain.W_dec,
            "b_dec": plain.b_dec,
        }  # fmt: skip
        if plain.rule == "top_k":
            config |= {"activation": "topk", "k": plain.k}
        elif plain.threshold is not None:
            tensors[_THRESHOLD] = plain.threshold
        if plain.W_skip is not None:
            tensors["W_skip"] = plain.W_skip
        path.mkdir(parents=True)
        held = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
        save_file(held, path / f"layer_{layer}.safetensors")
        (path / _CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        notes.append(
            Note("layers", f"layer {layer} alone; circuit-tracer wants one for each from 0 on")
        )
        return tuple(notes)


def _layers(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if _LAYER.fullmatch(p.name)]
    return sorted(found, key=lambda p: int(p.stem.split("_")[1]))


def _check_kind(config: Mapping[str, Any], folder: Path) -> None:
    kind = config.get("model_kind", _SET)
    if kind != _SET or (folder / "W_enc_0.safetensors").is_file():
        raise FormatError(
            f"{folder} holds a {str(kind).replace('_', ' ')}: each of its latents writes to all "
            "later layers, one of ours to one, and cut to one layer it would reconstruct something "
            "else; use circuit-tracer for it, or a transcoder set"
        )


def _one_layer(path: Path) -> Path:
    if path.is_file():
        return path
    files = _layers(path)
    if len(files) == 1:
        return files[0]
    names = ", ".join(file.name for file in files[:4]) + (", ..." if len(files) > 4 else "")
    raise FormatError(
        f"{path} holds {len(files)} layers ({names or 'elsewhere, as config.yaml says'}), one SAE "
        "is one layer; name the file of one, as in .../layer_0.safetensors"
    )


def _rule(
    config: Mapping[str, Any], held: Mapping[str, Tensor], file: Path
) -> tuple[Rule, int | None]:
    """The selection, and k where it is TopK."""
    activation = config.get("activation")
    if activation == "topk" or (activation is None and "k" in held):
        if "k" in config or "k" not in held:
            return "top_k", whole(config, "k", where=file.parent / _CONFIG)
        return "top_k", whole({"k": int(held["k"].reshape(-1)[0])}, "k", where=file)
    if activation not in (None, "relu", "jumprelu", "jump_relu"):
        raise FormatError(
            f"{file.parent / _CONFIG} says activation {activation!r}; circuit-tracer has topk and "
            "relu, and JumpReLU by the thresholds among the tensors"
        )
    return ("relu" if activation == "relu" or _THRESHOLD not in held else "jump"), None


def _hook(config: Mapping[str, Any], which: str, layer: str | None) -> str | None:
    hook = config.get(f"feature_{which}_hook")
    return None if hook is None or layer is None else f"blocks.{layer}.{hook}"


def _split(hook_name: str | None) -> tuple[int | None, str | None]:
    """The layer of a hook, and its name within the block."""
    if hook_name is None or not hook_name.startswith("blocks."):
        return None, hook_name
    return layer_of(hook_name), hook_name.split(".", 2)[2]


def _signed(foreign: Foreign, plain: Plain) -> Foreign:
    """The same, against the formula in which negative latents among the k largest count."""

    def formula(x: Tensor) -> Reading:
        pre_acts = formulas.linear(x, plain.W_enc, plain.b_enc)
        fired = formulas.top_k(pre_acts, int(plain.k or 0))
        best = pre_acts.topk(min(int(plain.k or 0), pre_acts.shape[1]), dim=1)
        latents = torch.zeros_like(pre_acts).scatter_(1, best.indices, best.values)
        x_hat = formulas.linear(latents, plain.W_dec, plain.b_dec)
        if plain.W_skip is not None:
            x_hat = x_hat + formulas.linear(x, plain.W_skip.T)
        return Reading(latents, fired.margin, x_hat)

    note = Note("selection", "theirs has no relu; a token with fewer than k positive differs")
    return Foreign(foreign.sae, formula, (*foreign.notes, note), foreign.latent_scale)
