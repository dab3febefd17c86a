"""Llama Scope, as released in 2024 and for R1 in 2025 (He et al. 2024, arXiv:2410.20526).

    s = √d_model / dataset_average_activation_norm
    a = (s · x − b_dec · [apply_decoder_bias_to_pre_encoder]) @ encoder.weightᵀ + encoder.bias
    scores = a, or a · ‖columns of decoder.weight‖ with sparsity_include_decoder_norm
    jumprelu: a where scores > threshold, which is s · jump_relu_threshold: one number, given in
    the units of raw activations. topk: the k largest scores. relu
    x_hat = (latents @ decoder.weightᵀ + decoder.bias) / s

Two layouts: `hyperparams.json` with `checkpoints/final.safetensors`; and that of the R1 release,
`config.json` with `sae_weights.safetensors`, where thresholds are one a latent and logarithms, in
the units of scaled activations, and norms lie among the tensors.
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
from saetools.formats.hooks import hook_meta
from saetools.formats.plain import Plain, Rule, plain_of
from saetools.formats.safety import read_json, read_safetensors, safetensors_shapes
from saetools.formats.settings import number, text, whole
from saetools.sae import SAE

__all__ = ["LlamaScope"]

_CONFIG, _WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"
_NEWER = ("config.json", "sae_weights.safetensors")
_NAMES = ("encoder.weight", "encoder.bias", "decoder.weight")
_RULES: Mapping[str, Rule] = {"relu": "relu", "jumprelu": "jump", "topk": "top_k"}


@FORMATS.register("llama_scope")
class LlamaScope(Format):
    """A folder of Llama Scope, in either layout; the older one is written."""

    title = "Llama Scope (2024) folder"
    files = f"`{_CONFIG}`, `{_WEIGHTS}`; or `{_NEWER[0]}`, `{_NEWER[1]}`"
    holds: ClassVar[Mapping[str, str]] = {
        "batch_topk": "jumprelu",
        "matryoshka": "jumprelu; topk where it selects by token",
        "standard": "relu",
        "topk": "topk",
        "hierarchical_topk": "topk",
        "jumprelu": "jumprelu, if its thresholds are all the same",
    }
    keeps = ("reconstruction", "latents", "hook name")
    loses = ("model name", "k of BatchTopK", "widths of Matryoshka", "settings of training")

    def detect(self, path: Path) -> bool:
        """By the names of the files and of the tensors."""
        return any(
            (path / config).is_file()
            and (path / weights).is_file()
            and set(_NAMES) <= set(safetensors_shapes(path / weights))
            for config, weights in ((_CONFIG, _WEIGHTS), _NEWER)
        )

    def read(self, path: Path) -> Foreign:
        """Read a folder."""
        older = (path / _CONFIG).is_file()
        config_name, weights = (_CONFIG, _WEIGHTS) if older else _NEWER
        config, held = read_json(path / config_name), read_safetensors(path / weights)
        need(held, _NAMES, where=path / weights)
        where = path / config_name
        _check(config, where)
        s = _scale(config, held, where)
        act = _act(config)
        b_dec = held.get("decoder.bias", torch.zeros(held["decoder.weight"].shape[0]))
        plain = Plain(
            held["encoder.weight"].T, held["encoder.bias"], held["decoder.weight"].T, b_dec,
            rule=_RULES[act],
            threshold=_threshold(config, held, s, where) if act == "jumprelu" else None,
            k=whole(config, "top_k", where=where) if act == "topk" else None,
            scale_in=s, scale_out=s,
            by_norm=bool(config.get("sparsity_include_decoder_norm", False)),
            centred=bool(config.get("apply_decoder_bias_to_pre_encoder", False)),
        )  # fmt: skip
        meta, notes = hook_meta(text(config, "hook_point_in", where=where), model=None)
        raw = number(config, "jump_relu_threshold", where=where)
        if act == "jumprelu" and raw is not None:
            notes.append(Note("threshold", f"{raw:g} in raw units, times {s:.8g}"))
        l0 = number(config, "top_k", where=where)
        return plain.foreign(meta=meta, notes=tuple(notes), l0=l0)

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write a folder, float32; activations are read as they are, so s is 1."""
        plain, notes = plain_of(sae, title=self.title, rules=("relu", "jump", "top_k"), skip=False)
        if plain.transcodes:
            raise FormatError(
                "what unit a Llama Scope transcoder's threshold has is written down nowhere, so "
                "this transcoder was not written; write it as llamascopium"
            )
        d_in, n_latents = plain.W_enc.shape
        config: dict[str, Any] = {
            "d_model": d_in,
            "d_sae": n_latents,
            "act_fn": {rule: name for name, rule in _RULES.items()}[plain.rule],
            "use_decoder_bias": True,
            "apply_decoder_bias_to_pre_encoder": False,
            "use_glu_encoder": False,
            "sparsity_include_decoder_norm": False,
            "norm_activation": "dataset-wise",
            "dataset_average_activation_norm": {"in": math.sqrt(d_in), "out": math.sqrt(d_in)},
            "hook_point_in": sae.meta.get("hook_name"),
            "hook_point_out": sae.meta.get("hook_name"),
            "top_k": plain.k or round(sae.calibrated_l0 or sae.target_l0 or 0) or None,
            "jump_relu_threshold": _one(plain.threshold),
        }
        tensors = {
            "encoder.weight": plain.W_enc.T, "encoder.bias": plain.b_enc,
            "decoder.weight": plain.W_dec.T, "decoder.bias": plain.b_dec,
        }  # fmt: skip
        (path / _WEIGHTS).parent.mkdir(parents=True)
        save_file({k: v.float().contiguous() for k, v in tensors.items()}, path / _WEIGHTS)
        (path / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return tuple(notes)


def _check(config: Mapping[str, Any], where: Path) -> None:
    """Refuse what ours cannot express, or what the files leave open."""
    act = _act(config)
    if act not in _RULES or config.get("use_glu_encoder"):
        raise FormatError(
            f"{where} says act_fn {act!r} and use_glu_encoder "
            f"{bool(config.get('use_glu_encoder'))}; ours has {', '.join(_RULES)} without a GLU "
            "(a batchtopk of theirs depends on the batch: convert it to jumprelu with their tools)"
        )
    read, written = config.get("hook_point_in"), config.get("hook_point_out")
    if written not in (None, read):
        raise FormatError(
            f"{where} is of a transcoder, from {read!r} to {written!r}; whether its threshold is "
            "in units of what it reads or of what it writes is written down nowhere, and the two "
            "give different latents, so it was not converted"
        )


def _act(config: Mapping[str, Any]) -> str:
    return str(config.get("act_fn", "jumprelu")).lower()


def _scale(config: Mapping[str, Any], held: Mapping[str, Tensor], where: Path) -> float:
    """What activations are multiplied by before they are encoded."""
    kind = config.get("norm_activation", "dataset-wise")
    if kind == "inference":
        return 1.0
    if kind != "dataset-wise":
        raise FormatError(
            f"{where} says norm_activation {kind!r}, which depends on the token or the batch; "
            "'dataset-wise' and 'inference' can be folded in"
        )
    norms = config.get("dataset_average_activation_norm")
    found = number(norms, "in", where=where) if isinstance(norms, Mapping) else None
    if found is None:
        key = f"dataset_average_activation_norm.{config.get('hook_point_in')}"
        found = float(held[key]) if key in held and held[key].numel() == 1 else None
    if found is None or not math.isfinite(found) or found <= 0:
        raise FormatError(
            f"{where} normalises by the mean norm of a data set and gives {found!r} for "
            "it; without that number nobody can tell what the SAE computes. Take it from the page "
            "of the release"
        )
    width = held["encoder.weight"].shape[1]
    return float(math.sqrt(width) / found)


def _threshold(
    config: Mapping[str, Any], held: Mapping[str, Tensor], s: float, where: Path
) -> Tensor:
    n_latents = len(held["encoder.bias"])
    if "log_jumprelu_threshold" in held:
        return held["log_jumprelu_threshold"].double().exp()
    threshold = number(config, "jump_relu_threshold", where=where)
    if threshold is None:
        raise FormatError(
            f"{where} says act_fn 'jumprelu' and has no jump_relu_threshold, "
            "nor do the tensors; the files are not complete"
        )
    return torch.full((n_latents,), threshold * s, dtype=torch.float64)


def _one(threshold: Tensor | None) -> float:
    """The one threshold of all latents."""
    if threshold is None:
        return 0.0
    if not torch.equal(threshold, threshold[:1].expand_as(threshold)):
        raise FormatError(
            f"Llama Scope has one threshold for all latents; this SAE has {len(threshold)}, from "
            f"{float(threshold.min()):.4g} to {float(threshold.max()):.4g}; write it as "
            "llamascopium"
        )
    return float(threshold[0])
