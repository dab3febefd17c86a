"""A SAELens folder on its way to an SAE of ours: its config, its formula, and what is changed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats import formulas
from saetools.formats.base import Foreign, Note, assembled, fold_centre
from saetools.formats.formulas import Fired, Formula, Reading
from saetools.formats.hooks import hook_meta
from saetools.formats.settings import text
from saetools.sae import INPUT_NORMS, SAE

__all__ = ["KEPT_METADATA", "NORMS", "Reader", "modern"]

NORMS = {"layer_norm": "layer_norm", "constant_norm_rescale": "unit_norm"}
"""Their names of normalisations that ours has, and ours."""

KEPT_METADATA = (
    "model_class_name", "prepend_bos", "dataset_path", "context_size", "hook_head_index",
    "model_from_pretrained_kwargs", "exclude_special_tokens", "seqpos_slice", "neuronpedia_id",
    "sae_lens_version", "sae_lens_training_version", "training_architecture", "l0",
)  # fmt: skip
"""What is kept of their metadata."""


class Reader:
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
        metadata = self.config["metadata"]
        meta, notes = hook_meta(
            text(metadata, "hook_name", where=self.path),
            model=text(metadata, "model_name", where=self.path),
        )
        meta |= {key: metadata[key] for key in KEPT_METADATA if metadata.get(key) is not None}
        self.notes += notes
        sae = self._sae(meta, metadata)
        if self.norm not in NORMS:
            return Foreign(sae, self._formula(), tuple(self.notes))
        norm = INPUT_NORMS.get(NORMS[self.norm])()
        self.notes.append(
            Note(self.norm, "kept; latents are in the units of the raw input: times its spread")
        )
        return Foreign(
            norm(sae), self._formula(), tuple(self.notes), lambda x: _spread(self.norm, x)
        )

    def _check_norm(self) -> None:
        if self.norm in ("none", *NORMS) and not (self.transcodes and self.norm != "none"):
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
            f"{self.path} says normalize_activations '{self.norm}' for a {self.kind}, "
            "which ours cannot express; save it from SAELens with the normalisation folded in"
        )

    def _sae(self, meta: dict[str, Any], metadata: Mapping[str, Any]) -> SAE:
        held = self.held
        W_enc, W_dec, b_dec = held["W_enc"], held["W_dec"], held["b_dec"]
        n_latents = W_enc.shape[1]
        l0 = min(_l0(metadata), float(n_latents))
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
        target, notes = hook_meta(text(metadata, "hook_name_out", where=self.path), model=None)
        self.notes += [note._replace(what="target_hook_name") for note in notes]
        l0 = round(_l0(metadata))
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


def modern(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the keys of SAELens 6; older ones have the metadata at top level."""
    found = dict(config)
    metadata = dict(found["metadata"]) if isinstance(found.get("metadata"), dict) else {}
    version = str(metadata.get("sae_lens_version") or found.get("sae_lens_version") or "")
    if version.split(".")[0].isdecimal() and int(version.split(".")[0]) >= 6:
        return found | {"metadata": metadata}
    renamed = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index"}
    found = {renamed.get(key, key): value for key, value in found.items()}
    arguments = found.get("activation_fn_kwargs")
    arguments = arguments if isinstance(arguments, dict) else {}
    function = found.get("activation_fn_str") or found.get("activation_fn") or "relu"
    found.setdefault("architecture", "standard")
    if function == "topk" and arguments.get("k") is not None:
        found |= {"architecture": "topk", "k": arguments["k"]}
    norm = found.get("normalize_activations")
    if isinstance(norm, bool):
        found["normalize_activations"] = "expected_average_only_in" if norm else "none"
    for key in ("hook_name", "model_name", *KEPT_METADATA):
        if key in found:
            metadata.setdefault(key, found[key])
    return found | {"metadata": metadata}


def _l0(metadata: Mapping[str, Any]) -> float:
    """Active latents a token as the files say, or 32; nothing is computed with it."""
    found = metadata.get("l0")
    return float(found) if isinstance(found, int | float) and found > 0 else 32.0
