"""SAELens 6: `cfg.json` and `sae_weights.safetensors` (docs of SAELens 6.x; tensors as in ours).

    a = (n(x) − b_dec · [apply_b_dec_to_input]) @ W_enc + b_enc
    standard: relu(a)      topk: the k largest, then relu      jumprelu: a where a > threshold and 0
    gated: relu(c @ (W_enc · exp(r_mag)) + b_mag) where c @ W_enc + b_gate > 0
    x_hat = n⁻¹(latents @ W_dec + b_dec)

n is nothing, `layer_norm` or `constant_norm_rescale`. BatchTopK and Matryoshka SAEs are saved as
jumprelu with one threshold for all latents. With `rescale_acts_by_decoder_norm` pre-activations are
multiplied by the norms of the decoder's rows before the k largest are taken, and divided in decode.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import save_file
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats.base import FORMATS, Foreign, Format, Note
from saetools.formats.dialects._saelens_reader import KEPT_METADATA, NORMS, Reader, modern
from saetools.formats.safety import read_json, read_safetensors
from saetools.formats.settings import whole
from saetools.formats.shapes import Shapes, fitting
from saetools.sae import SAE, Normed

__all__ = ["SAELens"]

_CONFIG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"
_VERSION = "6.54.0"  # a missing or older version makes SAELens take the folder for a legacy one
_PLAIN: Shapes = {
    "W_enc": ("d_in", "n_latents"), "b_enc": ("n_latents",),
    "W_dec": ("n_latents", "d_in"), "b_dec": ("d_in",),
}  # fmt: skip
_ACROSS: Shapes = {**_PLAIN, "W_dec": ("n_latents", "d_out"), "b_dec": ("d_out",)}
_THRESHOLD: Shapes = {"threshold": ("n_latents",)}
_SKIP: Shapes = {"W_skip": ("d_out", "d_in")}
_GATES: Shapes = dict.fromkeys(("b_gate", "b_mag", "r_mag"), ("n_latents",))
_TENSORS: dict[str, Shapes] = {
    "standard": _PLAIN,
    "topk": _PLAIN,
    "jumprelu": {**_PLAIN, **_THRESHOLD},
    "gated": {**{name: dims for name, dims in _PLAIN.items() if name != "b_enc"}, **_GATES},
    "transcoder": _ACROSS,
    "skip_transcoder": {**_ACROSS, **_SKIP},
    "jumprelu_transcoder": {**_ACROSS, **_THRESHOLD},
    "jumprelu_skip_transcoder": {**_ACROSS, **_THRESHOLD, **_SKIP},
}
_WHY_NOT = {
    "abstopk": "its latents can be negative, ours cannot",
    "matching_pursuit": "it has no encoder: latents are found one after the other",
    "temporal": "a token's latents depend on the tokens before it",
}


@FORMATS.register("saelens")
class SAELens(Format):
    """A folder that SAELens 6 saves, and what lies in a hub repository under one sae_id."""

    title = "SAELens 6 folder"
    files = f"`{_CONFIG}`, `{_WEIGHTS}`"
    holds: ClassVar[Mapping[str, str]] = {
        "standard": "standard",
        "topk": "topk",
        "hierarchical_topk": "topk",
        "batch_topk": "jumprelu with one threshold",
        "matryoshka": "jumprelu with one threshold; topk where it selects by token",
        "jumprelu": "jumprelu",
        "gated": "gated",
        "transcoder": "jumprelu_transcoder, with skip jumprelu_skip_transcoder; not by token",
    }
    keeps = ("reconstruction", "latents", "hook and model name", "layer-norm inputs")
    loses = ("k of BatchTopK", "widths of Matryoshka", "settings of training")

    def detect(self, path: Path) -> bool:
        """By the names of the two files."""
        return (path / _CONFIG).is_file() and (path / _WEIGHTS).is_file()

    def read(self, path: Path) -> Foreign:
        """Read a folder."""
        config = modern(read_json(path / _CONFIG))
        kind = str(config.get("architecture"))
        if kind not in _TENSORS:
            why = _WHY_NOT.get(kind, f"known are {', '.join(sorted(_TENSORS))}")
            raise FormatError(
                f"{path} holds a SAELens SAE of architecture '{kind}', which ours cannot express: "
                f"{why}; use SAELens for it"
            )
        held = read_safetensors(path / _WEIGHTS)
        if kind == "topk":
            whole(config, "k", where=path / _CONFIG)
        return Reader(
            path / _CONFIG, kind, config, fitting(held, _TENSORS[kind], where=path / _WEIGHTS)
        ).foreign()

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write a folder, float32."""
        kind, tensors, fields, notes = _spelled(sae)
        hook, model = sae.meta.get("hook_name"), sae.meta.get("model")
        metadata = {key: sae.meta[key] for key in KEPT_METADATA if key in sae.meta}
        metadata |= {
            "sae_lens_version": _VERSION,
            "sae_lens_training_version": None,
            "training_architecture": sae.config.type,
            "hook_name": hook,
            "model_name": model.get("name") if isinstance(model, Mapping) else model,
            "written_by": "saetools",
        }
        if sae.target_hook_name is not None:
            metadata["hook_name_out"] = sae.target_hook_name
        config = {
            "architecture": kind,
            "d_in": sae.config.d_in,
            "d_sae": sae.config.n_latents,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": "transcoder" not in kind,
            "normalize_activations": _norm_name(sae),
            "reshape_activations": "none",
            **fields,
            "metadata": metadata,
        }
        path.mkdir(parents=True)
        save_file({k: v.detach().cpu().float().contiguous() for k, v in tensors.items()},
                  path / _WEIGHTS)  # fmt: skip
        (path / _CONFIG).write_text(json.dumps(config, indent=2, default=str) + "\n", "utf-8")
        return tuple(notes)


def _norm_name(sae: SAE) -> str:
    if not isinstance(sae, Normed):
        return "none"
    kind = type(sae.norm).__module__.rpartition(".")[2]
    theirs = {ours: name for name, ours in NORMS.items()}.get(kind)
    if theirs is None or getattr(sae.norm, "eps", 1e-5) != 1e-5:
        raise FormatError(
            f"SAELens has no normalisation like {sae.norm}; it has layer_norm with eps 1e-5 and "
            "constant_norm_rescale"
        )
    return theirs


def _spelled(sae: SAE) -> tuple[str, dict[str, Tensor], dict[str, Any], list[Note]]:
    """SAELens' architecture, tensors and config fields of an SAE of ours."""
    state = dict(sae.state_dict())
    tensors = {
        "W_enc": state["W_enc_rows"].T, "b_enc": state["b_enc"],
        "W_dec": state["W_dec"], "b_dec": state["b_dec"],
    }  # fmt: skip
    kind, notes = sae.config.type, [Note("lost", "settings of training")]
    if kind == "standard":
        return "standard", tensors, {}, notes
    if kind == "gated":
        tensors["b_gate"] = tensors.pop("b_enc")
        return "gated", tensors | {"r_mag": state["r_mag"], "b_mag": state["b_mag"]}, {}, notes
    skip = {"W_skip": state["W_skip"]} if "W_skip" in state else {}
    if "threshold" in state:
        tensors["threshold"] = _threshold(sae, notes)
        if kind == "transcoder":
            name = "jumprelu_skip_transcoder" if skip else "jumprelu_transcoder"
            return name, tensors | skip, {"d_out": sae.d_out}, notes
        return "jumprelu", tensors, {}, notes
    if kind == "transcoder":
        raise FormatError(
            "SAELens has no transcoder that selects the k largest latents of each token, so this "
            "one cannot be written for it; write it as sparsify, or train it with "
            "selection: batch_topk"
        )
    k = getattr(sae.config, "k", None)
    if k is None or sae.target_hook_name is not None:
        raise FormatError(
            f"SAELens has no architecture that does what a {kind} SAE does; those that can be "
            f"written are {', '.join(sorted(SAELens.holds))}"
        )
    return "topk", tensors, {"k": int(k), "rescale_acts_by_decoder_norm": False}, notes


def _threshold(sae: SAE, notes: list[Note]) -> Tensor:
    """One threshold a latent; SAELens has no other."""
    threshold: Tensor = sae.state_dict()["threshold"]
    if bool(threshold.isnan().any()):
        raise FormatError(
            f"this {sae.config.type} SAE has no threshold yet, so other tools cannot read it; "
            "train it, or call saetools.train.calibrate(sae, store)"
        )
    if threshold.ndim == 0:
        notes.append(Note("threshold", f"one for all latents, {float(threshold):.6g}, repeated"))
        threshold = threshold.expand(sae.config.n_latents)
    if len(sae.widths) > 1:
        notes.append(Note("lost", f"widths {list(sae.widths)}"))
    return threshold.clamp_min(0)
