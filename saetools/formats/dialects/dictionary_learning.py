"""dictionary_learning: `ae.pt` (a state dict) beside `config.json`, one class of SAE each.

    AutoEncoder           relu((x − bias) @ Eᵀ + b)                x_hat = z @ Dᵀ + bias
    AutoEncoderNew        relu(x @ Eᵀ + b)                         x_hat = z @ Dᵀ + decoder.bias
    GatedAutoEncoder      relu(exp(r_mag) · c + mag_bias) where c + gate_bias > 0,
                          c = (x − decoder_bias) @ Eᵀ
    AutoEncoderTopK       the k largest of relu((x − b_dec) @ Eᵀ + b)
    BatchTopKSAE          relu((x − b_dec) @ Eᵀ + b) where above the threshold; −1: never set
    MatryoshkaBatchTopKSAE  the same; W_enc, W_dec as in ours, and group_sizes
    JumpReluAutoEncoder   x @ W_enc + b_enc where above threshold and 0; b_dec is not taken off x

E is encoder.weight (n_latents, d_in), D decoder.weight (d_in, n_latents). TopK and BatchTopK have
the same tensors, so config.json must say which it is.
"""

import json
import re
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats import formulas
from saetools.formats.base import FORMATS, Foreign, Format, Note, assembled, fold_centre
from saetools.formats.dialects._dictionary_learning_state import TRAINERS, theirs
from saetools.formats.formulas import Fired, Formula, Reading
from saetools.formats.safety import read_json, read_torch
from saetools.formats.shapes import Shapes, fitting
from saetools.models.hook_names import canonical, parse
from saetools.sae import SAE

__all__ = ["DictionaryLearning"]

_WEIGHTS = "ae.pt"
_CHECKPOINT = re.compile(r"ae(_\d+)?\.pt")
_SITE = re.compile(r"(?P<kind>resid_pre|resid_post|mlp_out|attn_out)_(?:layer_)?(?P<layer>\d+)")
_D, _N = ("d_in",), ("n_latents",)
_LINEAR: Shapes = {"encoder.weight": ("n_latents", "d_in"), "decoder.weight": ("d_in", "n_latents")}
_BIASED: Shapes = {**_LINEAR, "encoder.bias": _N}
_PLAIN: Shapes = {
    "W_enc": ("d_in", "n_latents"), "b_enc": _N, "W_dec": ("n_latents", "d_in"), "b_dec": _D
}  # fmt: skip
_GATES: Shapes = {"r_mag": _N, "gate_bias": _N, "mag_bias": _N}
_CLASSES: dict[str, Shapes] = {
    "AutoEncoder": {**_BIASED, "bias": _D},
    "AutoEncoderNew": {**_BIASED, "decoder.bias": _D},
    "GatedAutoEncoder": {**_LINEAR, "decoder_bias": _D, **_GATES},
    "AutoEncoderTopK": {**_BIASED, "b_dec": _D, "k": ()},
    "BatchTopKSAE": {**_BIASED, "b_dec": _D, "k": (), "threshold": ()},
    "MatryoshkaBatchTopKSAE": {**_PLAIN, "k": (), "threshold": (), "group_sizes": ("n_groups",)},
    "JumpReluAutoEncoder": {**_PLAIN, "threshold": _N},
}


@FORMATS.register("dictionary_learning")
class DictionaryLearning(Format):
    """A folder `trainer_i` of dictionary_learning, or one of its checkpoints `ae_<step>.pt`."""

    title = "dictionary_learning"
    files = f"`{_WEIGHTS}`, `config.json`"
    holds: ClassVar[Mapping[str, str]] = {
        "standard": "AutoEncoder",
        "topk": "AutoEncoderTopK",
        "hierarchical_topk": "AutoEncoderTopK",
        "batch_topk": "BatchTopKSAE",
        "matryoshka": "MatryoshkaBatchTopKSAE; AutoEncoderTopK where it selects by token",
        "jumprelu": "JumpReluAutoEncoder",
        "gated": "GatedAutoEncoder",
    }
    keeps = ("reconstruction", "latents", "k", "widths of Matryoshka", "layer and model name")
    loses = ("settings of training",)

    def detect(self, path: Path) -> bool:
        """By the name of the weights."""
        if path.is_dir():
            return (path / _WEIGHTS).is_file()
        return path.is_file() and _CHECKPOINT.fullmatch(path.name) is not None

    def read(self, path: Path) -> Foreign:
        """Read a folder or a checkpoint; the config is beside it or one folder up."""
        weights = path / _WEIGHTS if path.is_dir() else path
        held = read_torch(weights)
        trainer = _trainer(weights)
        kind = str(trainer.get("dict_class") or _class_by_keys(held, weights))
        if kind not in _CLASSES:
            raise FormatError(
                f"{weights} is a {kind}, which is no class of dictionary_learning that is known "
                f"here; known are {', '.join(_CLASSES)}"
            )
        held = fitting(held, _CLASSES[kind], where=weights)
        parts = _unfolded(kind, held)
        meta, notes = _meta(trainer)
        sae = _ours(kind, parts, held, meta, notes)
        return Foreign(sae, _formula(kind, parts, held), tuple(notes))

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write `ae.pt` and `config.json`."""
        kind, state, notes = theirs(sae, known=self.holds)
        hook, model = sae.meta.get("hook_name"), sae.meta.get("model")
        site = parse(str(hook))
        trainer: dict[str, Any] = {
            "trainer_class": TRAINERS[kind],
            "dict_class": kind,
            "activation_dim": sae.config.d_in,
            "dict_size": sae.config.n_latents,
            "layer": site.layer if site else None,
            "lm_name": model.get("name") if isinstance(model, Mapping) else model,
            "submodule_name": f"{site.kind}_layer_{site.layer}" if site else hook,
        }
        if "k" in state:
            trainer["k"] = int(state["k"])
        path.mkdir(parents=True)
        torch.save(state, path / _WEIGHTS)
        text = json.dumps({"trainer": trainer, "buffer": {}}, indent=2, default=str)
        (path / "config.json").write_text(text + "\n", "utf-8")
        return tuple(notes)


class _Parts(NamedTuple):
    """The tensors of any class in the field's orientation; centre is what is taken off x."""

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    centre: Tensor | None


def _unfolded(kind: str, held: Mapping[str, Tensor]) -> _Parts:
    if "W_enc" in held:
        b_dec = held["b_dec"]
        centre = None if kind == "JumpReluAutoEncoder" else b_dec
        return _Parts(held["W_enc"], held["b_enc"], held["W_dec"], b_dec, centre)
    b_dec = held[
        {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(
            kind, "decoder_bias" if kind == "GatedAutoEncoder" else "b_dec"
        )
    ]
    b_enc = held["gate_bias" if kind == "GatedAutoEncoder" else "encoder.bias"]
    centre = None if kind == "AutoEncoderNew" else b_dec
    return _Parts(held["encoder.weight"].T, b_enc, held["decoder.weight"].T, b_dec, centre)


def _ours(
    kind: str,
    parts: _Parts,
    held: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    notes: list[Note],
) -> SAE:
    b_enc, n_latents = parts.b_enc.double(), parts.W_enc.shape[1]
    if parts.centre is None:
        b_enc = b_enc + fold_centre(parts.W_enc, parts.b_dec)
        notes.append(Note("b_dec", "not taken off their input, so b_enc gains b_dec @ W_enc"))
    extra: dict[str, Tensor] = {}
    fields: dict[str, Any] = {}
    if kind in ("AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder"):
        fields["target_l0"] = None
    if kind in ("AutoEncoder", "AutoEncoderNew"):
        _note_norms(parts.W_dec, notes)
    if kind == "GatedAutoEncoder":
        extra = {"r_mag": held["r_mag"], "b_mag": held["mag_bias"]}
    if kind == "JumpReluAutoEncoder":
        extra["threshold"], fields["target_l0"] = held["threshold"], min(32.0, float(n_latents))
    if "k" in _CLASSES[kind]:
        fields["k"] = int(held["k"])
    if kind in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        extra["threshold"] = held["threshold"]
        if float(held["threshold"]) < 0:
            notes.append(Note("threshold", "never set (below 0): every positive latent is on"))
    if kind == "MatryoshkaBatchTopKSAE":
        fields["widths"] = tuple(accumulate(int(size) for size in held["group_sizes"]))
    ours = {
        "GatedAutoEncoder": "gated",
        "AutoEncoderTopK": "topk",
        "BatchTopKSAE": "batch_topk",
        "MatryoshkaBatchTopKSAE": "matryoshka",
        "JumpReluAutoEncoder": "jumprelu",
    }.get(kind, "standard")
    return assembled(
        ours, W_enc=parts.W_enc, b_enc=b_enc, W_dec=parts.W_dec, b_dec=parts.b_dec, meta=meta,
        tensors=extra, **fields,
    )  # fmt: skip


def _note_norms(W_dec: Tensor, notes: list[Note]) -> None:
    norms = W_dec.float().norm(dim=1)
    if not torch.allclose(norms, torch.ones_like(norms), rtol=1e-5, atol=1e-8):
        notes.append(
            Note(
                "decoder norms",
                "as in the file; the library's from_pretrained divides them out unless told not "
                "to, and its latents are then these times the norms",
            )
        )


def _formula(kind: str, parts: _Parts, held: Mapping[str, Tensor]) -> Formula:
    def fire(x: Tensor) -> Fired:
        centred = x if parts.centre is None else x - parts.centre.double()
        if kind == "GatedAutoEncoder":
            product = formulas.linear(centred, parts.W_enc)
            magnitude = held["r_mag"].double().exp() * product + held["mag_bias"].double()
            return formulas.gated(product + held["gate_bias"].double(), magnitude)
        pre_acts = formulas.linear(centred, parts.W_enc, parts.b_enc)
        if kind == "AutoEncoderTopK":
            return formulas.top_k(pre_acts, int(held["k"]))
        if kind in ("AutoEncoder", "AutoEncoderNew"):
            return formulas.relu(pre_acts)
        return formulas.jump(pre_acts, held["threshold"])

    def formula(x: Tensor) -> Reading:
        fired = fire(x)
        return Reading(*fired, formulas.linear(fired.latents, parts.W_dec, parts.b_dec))

    return formula


def _trainer(weights: Path) -> dict[str, Any]:
    """The block `trainer` of the config of these weights; empty where there is none."""
    for folder in (weights.parent, weights.parent.parent):
        if (folder / "config.json").is_file():
            found = read_json(folder / "config.json").get("trainer")
            return dict(found) if isinstance(found, dict) else {}
    return {}


def _class_by_keys(held: Mapping[str, Any], where: Path) -> str:
    """The class that has these tensors, where the config does not say."""
    fits = [name for name, keys in _CLASSES.items() if set(keys) - {"threshold"} <= set(held)]
    # The tensors of a JumpReLU SAE are among those of a Matryoshka.
    best = [name for name in fits if len(_CLASSES[name]) == max(len(_CLASSES[f]) for f in fits)]
    if {"AutoEncoderTopK", "BatchTopKSAE"} <= set(fits):
        raise FormatError(
            f"{where} holds the tensors of AutoEncoderTopK and of BatchTopKSAE, which select "
            "differently, and there is no config.json that says which it is; put one beside it: "
            '{"trainer": {"dict_class": "AutoEncoderTopK"}} or "BatchTopKSAE"'
        )
    if not best:
        raise FormatError(
            f"{where} holds no SAE of dictionary_learning: its tensors are "
            f"{', '.join(sorted(map(str, held))[:12]) or 'none'}; known classes are "
            f"{', '.join(_CLASSES)}"
        )
    return best[0]


def _meta(trainer: Mapping[str, Any]) -> tuple[dict[str, Any], list[Note]]:
    name, layer, place = (trainer.get(key) for key in ("lm_name", "layer", "submodule_name"))
    meta: dict[str, Any] = {"model": {"name": name}} if name else {}
    site = _SITE.search(str(place))
    known = parse(f"{site['kind']}.{site['layer']}") if site else parse(str(place))
    if known is None:
        return meta, [
            Note(
                "hook_name",
                f"the files say layer {layer} and submodule {place}, which names no site that is "
                "known here; set sae.meta['hook_name']",
            )
        ]
    meta["hook_name"] = canonical(known)
    return meta, [Note("hook_name", f"'{place}' is '{meta['hook_name']}' here")]
