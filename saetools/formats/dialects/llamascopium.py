"""Llamascopium, the current Language-Model-SAEs of OpenMOSS: `config.json`, `sae_weights.*`.

    s = √d_model / dataset_average_activation_norm.<hook>, one for the input and one for the output
    a = (s_in · x) @ W_E + b_E
    scores = a · ‖rows of W_D‖ with sparsity_include_decoder_norm, otherwise a
    relu, jumprelu: a where scores > exp(log_jumprelu_threshold), topk: of the k largest scores
    x_hat = (latents @ W_D + b_D) / s_out

norm_activation `inference` means that s is folded in already, `token-wise` that every token is
brought to norm √d_model. Norms that a file holds although norm_activation needs none are whatever
lay in memory when it was written (their `full_state_dict` saves an empty tensor), so they are not
looked at. A batchtopk of theirs selects over the batch at inference too; nothing can express it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats.base import FORMATS, Foreign, Format, Note, need
from saetools.formats.formulas import Reading
from saetools.formats.hooks import hook_meta
from saetools.formats.plain import Plain, Rule, plain_of
from saetools.formats.safety import read_json, read_safetensors, read_torch
from saetools.formats.settings import number, text, whole
from saetools.sae import INPUT_NORMS, SAE

__all__ = ["Llamascopium"]

_CONFIG, _WEIGHTS = "config.json", "sae_weights.safetensors"
# In the order in which their own loader looks.
_STEMS = ("sae_weights", "checkpoints/pruned", "checkpoints/final")
_NAMES = ("W_E", "b_E", "W_D")
_THRESHOLD = "activation_function.log_jumprelu_threshold"
_NORM = "dataset_average_activation_norm."
_RULES: Mapping[str, Rule] = {"relu": "relu", "jumprelu": "jump", "topk": "top_k"}
_OTHERS = {
    "crosscoder": "it reads several activations at once",
    "clt": "each latent writes to several layers",
    "lorsa": "it is a sparse attention layer",
    "molt": "its latents switch on whole linear maps",
}


@FORMATS.register("llamascopium")
class Llamascopium(Format):
    """A folder that `save_pretrained` of Llamascopium writes; SAEs and transcoders."""

    title = "Llamascopium folder"
    files = f"`{_CONFIG}`, `{_WEIGHTS}` (or `.pt`; or in `checkpoints/`)"
    holds: ClassVar[Mapping[str, str]] = {
        "standard": "relu",
        "topk": "topk",
        "hierarchical_topk": "topk",
        "jumprelu": "jumprelu",
        "batch_topk": "jumprelu with one threshold",
        "matryoshka": "jumprelu with one threshold; topk where it selects by token",
        "transcoder": "jumprelu or topk with two hooks; not with skip, d_out as d_in",
    }
    keeps = ("reconstruction", "latents", "hook names")
    loses = ("model name", "k of BatchTopK", "widths of Matryoshka", "settings of training")

    def detect(self, path: Path) -> bool:
        """By sae_type in config.json."""
        if not (path / _CONFIG).is_file():
            return False
        return "sae_type" in read_json(path / _CONFIG)

    def read(self, path: Path) -> Foreign:
        """Read a folder."""
        config, where = read_json(path / _CONFIG), path / _CONFIG
        act = _checked(config, where)
        held = _weights(path)
        need(held, (*_NAMES, *((_THRESHOLD,) if act == "jumprelu" else ())), where=path)
        read = text(config, "hook_point_in", where=where)
        written = text(config, "hook_point_out", where=where)
        norm = config.get("norm_activation", "dataset-wise")
        by_data_set = norm == "dataset-wise"
        width = held["W_E"].shape[0]
        b_D = held.get("b_D", torch.zeros(held["W_D"].shape[1]))
        plain = Plain(
            held["W_E"], held["b_E"], held["W_D"], b_D,
            rule=_RULES[act],
            threshold=held[_THRESHOLD].double().exp() if act == "jumprelu" else None,
            k=whole(config, "top_k", where=where) if act == "topk" else None,
            scale_in=_scale(held, read, width, where) if by_data_set else 1.0,
            scale_out=_scale(held, written or read, width, where) if by_data_set else 1.0,
            by_norm=bool(config.get("sparsity_include_decoder_norm", True)),
            transcodes=written not in (None, read),
        )  # fmt: skip
        meta, notes = hook_meta(read, model=None)
        target, _ = hook_meta(written, model=None)
        foreign = plain.foreign(
            meta=meta, notes=tuple(notes), l0=number(config, "top_k", where=where),
            target_hook_name=target.get("hook_name") if plain.transcodes else None,
        )  # fmt: skip
        return _per_token(foreign, plain) if norm == "token-wise" else foreign

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write a folder, float32; norms are folded in already (`inference`)."""
        plain, notes = plain_of(sae, title=self.title, rules=("relu", "jump", "top_k"), skip=False)
        d_in, n_latents = plain.W_enc.shape
        if plain.W_dec.shape[1] != d_in:
            raise FormatError(
                f"Llamascopium has one width for what is read and written; this transcoder has "
                f"{d_in} and {plain.W_dec.shape[1]}; write it as saelens"
            )
        hook = sae.meta.get("hook_name") or "unknown"
        config: dict[str, Any] = {
            "sae_type": "sae",
            "d_model": d_in,
            "expansion_factor": _factor(n_latents, d_in),
            "use_decoder_bias": True,
            "act_fn": {rule: name for name, rule in _RULES.items()}[plain.rule],
            "norm_activation": "inference",
            "sparsity_include_decoder_norm": False,
            "top_k": plain.k or max(round(sae.calibrated_l0 or sae.target_l0 or 1), 1),
            "use_glu_encoder": False,
            "hook_point_in": hook,
            "hook_point_out": (sae.target_hook_name or "unknown") if plain.transcodes else hook,
        }
        if plain.transcodes and config["hook_point_out"] == hook:
            config["hook_point_out"] = f"{hook} (written)"
            notes.append(Note("hook_point_out", "unknown; named apart from hook_point_in"))
        tensors = {
            "W_E": plain.W_enc, "b_E": plain.b_enc, "W_D": plain.W_dec, "b_D": plain.b_dec,
        }  # fmt: skip
        if plain.threshold is not None:
            # exp of the logarithm of the least float is above zero by nothing that counts.
            least = torch.finfo(torch.float32).tiny
            tensors[_THRESHOLD] = plain.threshold.double().clamp_min(least).log()
        path.mkdir(parents=True)
        save_file({k: v.float().contiguous() for k, v in tensors.items()}, path / _WEIGHTS)
        (path / _CONFIG).write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
        return tuple(notes)


def _checked(config: Mapping[str, Any], where: Path) -> str:
    """The activation function; what ours cannot express is refused."""
    kind, act = str(config.get("sae_type")), str(config.get("act_fn", "relu")).lower()
    if kind != "sae":
        why = _OTHERS.get(kind, "it is not known here")
        raise FormatError(f"{where} is of a '{kind}', which an SAE of ours cannot express: {why}")
    if config.get("use_glu_encoder"):
        raise FormatError(
            f"{where} says use_glu_encoder: latents are products of two maps, ours read one; "
            "use Llamascopium for it"
        )
    if act not in _RULES:
        raise FormatError(
            f"{where} says act_fn {act!r}, which selects over the whole batch at inference too, so "
            "a token's latents depend on its neighbours; convert it with Llamascopium's own "
            "topk_to_jumprelu_conversion, then read that"
        )
    norm = config.get("norm_activation", "dataset-wise")
    transcodes = config.get("hook_point_out") not in (None, config.get("hook_point_in"))
    if norm not in ("dataset-wise", "inference", "token-wise") or (
        norm == "token-wise" and transcodes
    ):
        raise FormatError(
            f"{where} says norm_activation {norm!r}: its output is scaled by something that is not "
            "known when a token is read; 'dataset-wise' and 'inference' can be converted, and "
            "'token-wise' where one hook is read and written"
        )
    return act


def _weights(path: Path) -> dict[str, Tensor]:
    """The tensors of the first file that their own loader would take."""
    for stem in _STEMS:
        if (path / f"{stem}.safetensors").is_file():
            return read_safetensors(path / f"{stem}.safetensors")
        if (path / f"{stem}.pt").is_file():
            held = read_torch(path / f"{stem}.pt").get("sae")
            if not isinstance(held, dict):
                raise FormatError(
                    f"{path / stem}.pt has no state dict under 'sae'; Llamascopium did not write it"
                )
            return {name: tensor for name, tensor in held.items() if isinstance(tensor, Tensor)}
        if (path / f"{stem}.dcp").exists():
            raise FormatError(
                f"{path / stem}.dcp is a distributed checkpoint, which is read with PyTorch's "
                "pickle; save it from Llamascopium as .safetensors"
            )
    raise FormatError(
        f"{path} has a {_CONFIG} of Llamascopium and no weights: none of "
        f"{', '.join(f'{stem}.safetensors' for stem in _STEMS)} is there"
    )


def _scale(held: Mapping[str, Tensor], hook: str | None, width: int, where: Path) -> float:
    """What activations of a hook are multiplied by."""
    norm = held.get(f"{_NORM}{hook}")
    value = float(norm) if norm is not None and norm.numel() == 1 else math.nan
    if not (math.isfinite(value) and value > 0):
        raise FormatError(
            f"{where} normalises by the mean norm of a data set, and the tensors give {value:g} "
            f"for '{hook}'; without that number nobody can tell what the SAE computes. Save it "
            "from Llamascopium with fold_activation_scale=True"
        )
    return float(math.sqrt(width) / value)


def _factor(n_latents: int, d_in: int) -> float:
    """An expansion factor of which int(d_in · factor), as they compute it, is n_latents."""
    factor = n_latents / d_in
    return factor if int(d_in * factor) == n_latents else math.nextafter(factor, math.inf)


def _per_token(foreign: Foreign, plain: Plain) -> Foreign:
    """The same SAE over tokens of norm √d_model."""
    norm = INPUT_NORMS.get("unit_norm")()
    inner = plain.formula()

    def formula(x: Tensor) -> Reading:
        spread = _spread(x)
        read = inner(x / spread)
        return read._replace(x_hat=read.x_hat * spread)

    def scale(x: Tensor) -> Tensor:
        return torch.as_tensor(foreign.latent_scale(x) * _spread(x))

    note = Note("token-wise", "kept; latents are in the units of the raw input: times its spread")
    return Foreign(norm(foreign.sae), formula, (*foreign.notes, note), scale)


def _spread(x: Tensor) -> Tensor:
    return torch.as_tensor(x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5)
