"""sparsify: `{hookpoint}/cfg.json` and `{hookpoint}/sae.safetensors`.

    z = the k largest of relu((x − b_dec · [not transcode]) @ Eᵀ + b)
    x_hat = z @ W_dec + b_dec (+ x @ W_skipᵀ)

E is encoder.weight (n_latents, d_in), W_dec (n_latents, d_in) as in ours. The folder is named after
the module whose output is read, relative to the base model: `layers.10`, `h.5.mlp`; a transcoder
reads that module's input and writes its output. num_latents 0 means d_in · expansion_factor, so the
size is taken from the tensors.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats import formulas
from saetools.formats.base import FORMATS, Foreign, Format, Note, assembled, fold_centre
from saetools.formats.formulas import Formula, Reading
from saetools.formats.hooks import from_module_path, hook_meta, to_module_path
from saetools.formats.safety import read_json, read_safetensors
from saetools.formats.settings import text, whole
from saetools.formats.shapes import Shapes, fitting
from saetools.models.hook_names import layer_of
from saetools.sae import SAE, Normed

__all__ = ["Sparsify"]

_CONFIG, _WEIGHTS = "cfg.json", "sae.safetensors"
_TENSORS: Shapes = {
    "encoder.weight": ("n_latents", "d_in"), "encoder.bias": ("n_latents",),
    "W_dec": ("n_latents", "d_in"), "b_dec": ("d_in",),
}  # fmt: skip


@FORMATS.register("sparsify")
class Sparsify(Format):
    """One hookpoint's folder of sparsify."""

    title = "sparsify"
    files = f"`{{hookpoint}}/{_CONFIG}`, `{{hookpoint}}/{_WEIGHTS}`"
    holds: ClassVar[Mapping[str, str]] = {
        "topk": "topk",
        "hierarchical_topk": "topk",
        "matryoshka": "topk, where it selects by token",
        "transcoder": "transcode, where it selects by token and d_out is d_in",
    }
    keeps = ("reconstruction", "latents", "k", "hook name as hookpoint")
    loses = ("model name", "widths of Matryoshka", "settings of training")

    def detect(self, path: Path) -> bool:
        """By the names of the two files."""
        return (path / _CONFIG).is_file() and (path / _WEIGHTS).is_file()

    def read(self, path: Path) -> Foreign:
        """Read one hookpoint's folder."""
        config, held = read_json(path / _CONFIG), read_safetensors(path / _WEIGHTS)
        skip, transcode = bool(config.get("skip_connection")), bool(config.get("transcode"))
        shapes = {**_TENSORS, "W_skip": ("d_in", "d_in")} if skip else _TENSORS
        held = fitting(held, shapes, where=path / _WEIGHTS)
        activation = config.get("activation", "topk")
        if activation != "topk":
            raise FormatError(
                f"{path} has the activation '{activation}' (the largest of each of k groups of "
                "latents), which ours cannot express; use sparsify for it"
            )
        k = whole({"k": 32, **config}, "k", where=path / _CONFIG)
        meta, notes = _place(config, path, transcode=transcode)
        sae = _ours(held, meta, notes, k=k, skip=skip, transcode=transcode)
        return Foreign(sae, _formula(held, k=k, centred=not transcode), tuple(notes))

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write one hookpoint's folder, float32."""
        _check(sae)
        own = {name: tensor.detach().cpu().float() for name, tensor in sae.state_dict().items()}
        tensors = {
            "encoder.weight": own["W_enc_rows"],
            "encoder.bias": own["b_enc"],
            "W_dec": own["W_dec"],
            "b_dec": own["b_dec"],
        } | ({"W_skip": own["W_skip"]} if "W_skip" in own else {})
        notes = [Note("lost", "settings of training")]
        if len(sae.widths) > 1:
            notes.append(Note("lost", f"widths {list(sae.widths)}"))
        hookpoint = _hookpoint(sae, notes)
        fields, norms = sae.config.model_dump(), own["W_dec"].norm(dim=1)
        config = {
            "activation": "topk",
            "expansion_factor": max(1, sae.config.n_latents // sae.config.d_in),
            "normalize_decoder": bool(torch.allclose(norms, torch.ones_like(norms), atol=1e-4)),
            "num_latents": sae.config.n_latents,
            "k": fields["k"],
            "multi_topk": bool(fields.get("multi", False)),
            "skip_connection": "W_skip" in own,
            "transcode": sae.config.type == "transcoder",
            "d_in": sae.config.d_in,
            "hookpoint": hookpoint,  # sparsify reads past keys that it does not know
        }
        path.mkdir(parents=True)
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, path / _WEIGHTS)
        (path / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        return tuple(notes)


def _ours(
    held: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    notes: list[Note],
    *,
    k: int,
    skip: bool,
    transcode: bool,
) -> SAE:
    W_enc, b_enc, extra = held["encoder.weight"].T, held["encoder.bias"].double(), {}
    fields: dict[str, Any] = {"k": k}
    kind = "transcoder" if transcode or skip else "topk"
    if kind == "transcoder":
        fields |= {"d_out": held["W_dec"].shape[1], "skip": skip}
        fields["target_hook_name"] = meta.get("target_hook_name")
        extra = {"W_skip": held["W_skip"]} if skip else {}
    if skip and not transcode:
        b_enc = b_enc - fold_centre(W_enc, held["b_dec"])
        notes.append(
            Note("skip_connection", "an SAE with skip is a transcoder to its own input here")
        )
        notes.append(Note("b_dec", "a transcoder takes none off, so b_enc loses b_dec @ W_enc"))
    return assembled(
        kind, W_enc=W_enc, b_enc=b_enc, W_dec=held["W_dec"], b_dec=held["b_dec"], meta=meta,
        tensors=extra, **fields,
    )  # fmt: skip


def _formula(held: Mapping[str, Tensor], *, k: int, centred: bool) -> Formula:
    def formula(x: Tensor) -> Reading:
        read = x - held["b_dec"].double() if centred else x
        pre_acts = formulas.linear(read, held["encoder.weight"].T, held["encoder.bias"])
        fired = formulas.top_k(pre_acts, k)
        x_hat = formulas.linear(fired.latents, held["W_dec"], held["b_dec"])
        if "W_skip" in held:
            x_hat = x_hat + formulas.linear(x, held["W_skip"].T)
        return Reading(*fired, x_hat)

    return formula


def _place(
    config: Mapping[str, Any], path: Path, *, transcode: bool
) -> tuple[dict[str, Any], list[Note]]:
    """Hook names from the config, if we wrote it, else from the folder's name."""
    named = path.resolve().name
    hookpoint = text(config, "hookpoint", where=path / _CONFIG) or (
        named if from_module_path(named) else None
    )
    meta, notes = hook_meta(hookpoint, model=None)
    layer = layer_of(str(meta.get("hook_name")))
    if transcode and layer is not None:
        meta["target_hook_name"] = meta["hook_name"]
        meta["hook_name"] = f"blocks.{layer}.mlp.hook_in"
        notes.append(Note("hook_name", f"a transcoder of {hookpoint} reads that module's input"))
    return meta, notes


def _hookpoint(sae: SAE, notes: list[Note]) -> str | None:
    hook = str(sae.target_hook_name or sae.meta.get("hook_name"))
    model = sae.meta.get("model")
    name = str(model.get("name") if isinstance(model, Mapping) else model)
    hookpoint = to_module_path(hook, model=name)
    if hookpoint is None:
        notes.append(Note("hook_name", f"'{hook}' is the output of no module, so it is left out"))
    else:
        notes.append(
            Note("hook_name", f"'{hook}' is '{hookpoint}' there; name the folder so for load_many")
        )
    return hookpoint


def _check(sae: SAE) -> None:
    """Refuse what sparsify cannot express."""
    why = ""
    if isinstance(sae, Normed):
        why = "it has no normalised inputs"
    elif "threshold" in sae.state_dict():
        why = "it has no thresholds; it takes the k largest latents of each token"
    elif sae.config.type not in Sparsify.holds:
        why = "it takes the k largest latents of each token"
    elif sae.d_out != sae.config.d_in:
        why = f"it has one width, and this reads {sae.config.d_in} and writes {sae.d_out}"
    if why:
        raise FormatError(
            f"sparsify cannot express this {sae.config.type} SAE: {why}. It can those of "
            f"{', '.join(Sparsify.holds)} that select by token; write another format"
        )
