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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats import formulas
from saetools.formats.base import FORMATS, Foreign, Format, Note, assembled, fold_centre, need
from saetools.formats.formulas import Fired, Formula, Reading
from saetools.formats.hooks import hook_meta
from saetools.formats.safety import read_json, read_safetensors
from saetools.sae import INPUT_NORMS, SAE, Normed

__all__ = ["SAELens"]

_CONFIG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"
_VERSION = "6.54.0"  # a missing or older version makes SAELens take the folder for a legacy one
_NORMS = {"layer_norm": "layer_norm", "constant_norm_rescale": "unit_norm"}
_TENSORS = {
    "standard": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "topk": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "jumprelu": ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
    "gated": ("W_enc", "b_gate", "b_mag", "r_mag", "W_dec", "b_dec"),
    "transcoder": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "skip_transcoder": ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip"),
    "jumprelu_transcoder": ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
    "jumprelu_skip_transcoder": ("W_enc", "b_enc", "W_dec", "b_dec", "threshold", "W_skip"),
}
_WHY_NOT = {
    "abstopk": "its latents can be negative, ours cannot",
    "matching_pursuit": "it has no encoder: latents are found one after the other",
    "temporal": "a token's latents depend on the tokens before it",
}
_META = (
    "model_class_name", "prepend_bos", "dataset_path", "context_size", "hook_head_index",
    "model_from_pretrained_kwargs", "exclude_special_tokens", "seqpos_slice", "neuronpedia_id",
    "sae_lens_version", "sae_lens_training_version", "training_architecture", "l0",
)  # fmt: skip


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
        config = _modern(read_json(path / _CONFIG))
        kind = str(config.get("architecture"))
        if kind not in _TENSORS:
            why = _WHY_NOT.get(kind, f"known are {', '.join(sorted(_TENSORS))}")
            raise FormatError(
                f"{path} holds a SAELens SAE of architecture '{kind}', which ours cannot express: "
                f"{why}; use SAELens for it"
            )
        held = read_safetensors(path / _WEIGHTS)
        need(held, _TENSORS[kind], where=path / _WEIGHTS)
        return _Reader(path, kind, config, held).foreign()

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write a folder, float32."""
        kind, tensors, fields, notes = _spelled(sae)
        hook, model = sae.meta.get("hook_name"), sae.meta.get("model")
        metadata = {key: sae.meta[key] for key in _META if key in sae.meta}
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


class _Reader:
    """One folder on its way to an SAE of ours: its tensors, and what has to be changed."""

    def __init__(
        self, path: Path, kind: str, config: Mapping[str, Any], held: Mapping[str, Tensor]
    ) -> None:
        self.path, self.kind, self.config, self.held = path, kind, config, held
        self.transcodes = "transcoder" in kind
        self.centred = bool(config.get("apply_b_dec_to_input", True)) and not self.transcodes
        self.norm = str(config.get("normalize_activations") or "none")
        self.rescaled = kind == "topk" and bool(config.get("rescale_acts_by_decoder_norm"))
        self.notes: list[Note] = []

    def foreign(self) -> Foreign:
        """The SAE of ours, the formula of theirs and what was changed."""
        self._check_norm()
        metadata = self.config.get("metadata") or {}
        meta, notes = hook_meta(metadata.get("hook_name"), model=metadata.get("model_name"))
        meta |= {key: metadata[key] for key in _META if metadata.get(key) is not None}
        self.notes += notes
        sae = self._sae(meta, metadata)
        if self.norm not in _NORMS:
            return Foreign(sae, self._formula(), tuple(self.notes))
        norm = INPUT_NORMS.get(_NORMS[self.norm])()
        self.notes.append(
            Note(self.norm, "kept; latents are in the units of the raw input: times its spread")
        )
        return Foreign(
            norm(sae), self._formula(), tuple(self.notes), lambda x: _spread(self.norm, x)
        )

    def _check_norm(self) -> None:
        if self.norm in ("none", *_NORMS) and not (self.transcodes and self.norm != "none"):
            return
        if self.norm == "expected_average_only_in":
            self.notes.append(
                Note(
                    "normalisation",
                    "says expected_average_only_in, whose scale is not in the folder: as SAELens "
                    "does, activations are read as given; multiply them by √d_in over their mean "
                    "norm, or fold that scale in with sae.folded(Affine(scale))",
                )
            )
            return
        raise FormatError(
            f"{self.path / _CONFIG} says normalize_activations '{self.norm}' for a {self.kind}, "
            "which ours cannot express; save it from SAELens with the normalisation folded in"
        )

    def _sae(self, meta: dict[str, Any], metadata: Mapping[str, Any]) -> SAE:
        held = self.held
        W_enc, W_dec, b_dec = held["W_enc"], held["W_dec"], held["b_dec"]
        n_latents = W_enc.shape[1]
        l0 = min(float(metadata.get("l0") or 32.0), float(n_latents))
        b_enc = held["b_gate" if self.kind == "gated" else "b_enc"].double()
        extra: dict[str, Tensor] = {}
        fields: dict[str, Any] = {}
        if "threshold" in held:
            extra["threshold"] = held["threshold"]
        if self.kind == "gated":
            extra |= {"r_mag": held["r_mag"], "b_mag": held["b_mag"].double()}
        if not self.centred and not self.transcodes:
            shift = fold_centre(W_enc, b_dec)
            b_enc = b_enc + shift
            if self.kind == "gated":
                extra["b_mag"] = extra["b_mag"] + held["r_mag"].double().exp() * shift
            self.notes.append(
                Note("b_dec", "not taken off their input, so b_enc gains b_dec @ W_enc")
            )
        if self.rescaled:
            norms = W_dec.double().norm(dim=1)
            W_enc, b_enc = W_enc.double() * norms, b_enc * norms
            W_dec = W_dec.double() / norms.clamp_min(1e-30).unsqueeze(1)
            self.notes.append(
                Note("decoder norms", "folded into W_enc and b_enc (rescale_acts_by_decoder_norm)")
            )
        if self.transcodes:
            kind = "transcoder"
            fields = self._transcoder_fields(metadata, extra, n_latents)
        elif self.kind == "topk":
            kind, fields = "topk", {"k": int(self.config["k"])}
        else:
            kind = self.kind
            fields = {"target_l0": l0 if kind == "jumprelu" else None}
        return assembled(
            kind, W_enc=W_enc, b_enc=b_enc, W_dec=W_dec, b_dec=b_dec, meta=meta, tensors=extra,
            **fields,
        )  # fmt: skip

    def _transcoder_fields(
        self, metadata: Mapping[str, Any], extra: dict[str, Tensor], n_latents: int
    ) -> dict[str, Any]:
        if "threshold" not in extra:
            extra["threshold"] = torch.zeros(n_latents)
            self.notes.append(Note("selection", "relu is one threshold of zero a latent here"))
        if "W_skip" in self.held:
            extra["W_skip"] = self.held["W_skip"]
        target, notes = hook_meta(metadata.get("hook_name_out"), model=None)
        self.notes += [note._replace(what="target_hook_name") for note in notes]
        l0 = round(float(metadata.get("l0") or 32))
        return {
            "d_out": self.held["W_dec"].shape[1],
            "target_hook_name": target.get("hook_name"),
            "selection": "batch_topk",
            "thresholds": "per_latent",
            "skip": "W_skip" in self.held,
            "k": min(max(l0, 1), n_latents),
        }

    def _formula(self) -> Formula:
        held, norm = self.held, self.norm
        fire = _rule(self.kind, self.config, held)
        norms = held["W_dec"].double().norm(dim=1)

        def formula(x: Tensor) -> Reading:
            mean, spread, divisor = _statistics(norm, x)
            read = (x - mean) / divisor
            centred = read - held["b_dec"].double() if self.centred else read
            fired = fire(centred, norms if self.rescaled else None)
            values = fired.latents / norms if self.rescaled else fired.latents
            x_hat = formulas.linear(values, held["W_dec"], held["b_dec"])
            if "W_skip" in held:
                x_hat = x_hat + formulas.linear(x, held["W_skip"].T)
            return Reading(fired.latents, fired.margin, x_hat * spread + mean)

        return formula


def _rule(
    kind: str, config: Mapping[str, Any], held: Mapping[str, Tensor]
) -> Callable[[Tensor, Tensor | None], Fired]:
    """The selection of an architecture, from what the encoder reads."""

    def fire(centred: Tensor, norms: Tensor | None) -> Fired:
        product = formulas.linear(centred, held["W_enc"])
        if kind == "gated":
            magnitude = product * held["r_mag"].double().exp() + held["b_mag"].double()
            return formulas.gated(product + held["b_gate"].double(), magnitude)
        pre_acts = product + held["b_enc"].double()
        if kind == "topk":
            return formulas.top_k(pre_acts if norms is None else pre_acts * norms, int(config["k"]))
        threshold = held.get("threshold")
        return formulas.relu(pre_acts) if threshold is None else formulas.jump(pre_acts, threshold)

    return fire


def _statistics(norm: str, x: Tensor) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
    if norm == "layer_norm":
        spread = x.std(dim=-1, keepdim=True)
        return x.mean(dim=-1, keepdim=True), spread, spread + 1e-5
    if norm == "constant_norm_rescale":
        rms = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
        return 0.0, rms, rms
    return 0.0, 1.0, 1.0


def _spread(norm: str, x: Tensor) -> Tensor:
    return torch.as_tensor(_statistics(norm, x)[1])


def _norm_name(sae: SAE) -> str:
    if not isinstance(sae, Normed):
        return "none"
    kind = type(sae.norm).__module__.rpartition(".")[2]
    theirs = {ours: name for name, ours in _NORMS.items()}.get(kind)
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


def _modern(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the keys of SAELens 6; older ones have the metadata at top level."""
    found = dict(config)
    metadata = dict(found.get("metadata") or {})
    version = str(metadata.get("sae_lens_version") or found.get("sae_lens_version") or "")
    if version and int(version.split(".")[0]) >= 6:
        return found | {"metadata": metadata}
    renamed = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index"}
    found = {renamed.get(key, key): value for key, value in found.items()}
    arguments = found.get("activation_fn_kwargs") or {}
    function = found.get("activation_fn_str") or found.get("activation_fn") or "relu"
    found.setdefault("architecture", "standard")
    if function == "topk" and arguments.get("k") is not None:
        found |= {"architecture": "topk", "k": arguments["k"]}
    norm = found.get("normalize_activations")
    if isinstance(norm, bool):
        found["normalize_activations"] = "expected_average_only_in" if norm else "none"
    for key in ("hook_name", "model_name", *_META):
        if key in found:
            metadata.setdefault(key, found[key])
    return found | {"metadata": metadata}
