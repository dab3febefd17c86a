"""Hook names between tools: ours are transformer_lens', others name modules of the model.

`layers.10`, `transformer.h.5` and `model.layers.3` are a block's output, `h.5.mlp` and
`layers.10.self_attn` a sublayer's. A name that is none of these is kept as it is and noted.
"""

import re
from collections.abc import Mapping
from typing import Any

from saetools.formats.base import Note
from saetools.models.hook_names import HookSite, canonical, parse
from saetools.sae import SAE

__all__ = ["from_module_path", "hook_meta", "model_name", "to_module_path"]

_ATTENTION = ("attn", "self_attn", "attention")
_BLOCKS_ARE_H = ("gpt2", "gpt-neo-", "gpt_neo_", "gpt-j", "bloom", "falcon", "codegen")
_ATTENTION_IN_FULL = ("pythia", "neox")
_SUBLAYER = re.compile(r"(?:\w+\.)*(?:layers?|h|blocks?)\.(?P<layer>\d+)\.(?P<part>\w+)")


def from_module_path(path: str) -> str | None:
    """The hook of ours whose activation a module's output is; None for a path not known here."""
    site = parse(path)
    if site is not None:
        return canonical(site)
    match = _SUBLAYER.fullmatch(path)
    if match is None:
        return None
    layer, part = int(match["layer"]), match["part"]
    if part == "mlp":
        return canonical(HookSite("mlp_out", layer))
    return canonical(HookSite("attn_out", layer)) if part in _ATTENTION else None


def to_module_path(hook_name: str, *, model: str = "") -> str | None:
    """The module path of a hook relative to the base model; None where it is no module's output.

    Args:
        model: its name; families differ in what they call blocks and attention.
    """
    blocks = "h" if any(part in model.lower() for part in _BLOCKS_ARE_H) else "layers"
    attention = "attn" if blocks == "h" else "self_attn"
    if any(part in model.lower() for part in _ATTENTION_IN_FULL):
        attention = "attention"
    site = parse(hook_name)
    if site is None:
        return None
    if site.kind == "resid_post":
        return f"{blocks}.{site.layer}"
    if site.kind == "mlp_out":
        return f"{blocks}.{site.layer}.mlp"
    if site.kind == "attn_out":
        return f"{blocks}.{site.layer}.{attention}"
    return f"{blocks}.{site.layer - 1}" if site.layer > 0 else None


def model_name(sae: SAE) -> str | None:
    """The name of the subject model that an SAE's meta has, if any."""
    model = sae.meta.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    return str(name) if name else None


def hook_meta(theirs: str | None, *, model: str | None) -> tuple[dict[str, Any], list[Note]]:
    """The meta of an SAE that another tool's name places, and what became of the name."""
    meta: dict[str, Any] = {} if model is None else {"model": {"name": model}}
    if theirs is None:
        return meta, [Note("hook_name", "not in the files; set sae.meta['hook_name']")]
    ours = from_module_path(theirs)
    if ours is None:
        return {**meta, "hook_name": theirs}, [
            Note("hook_name", f"'{theirs}' kept as it is: no name of a site that is known here")
        ]
    notes = [] if ours == theirs else [Note("hook_name", f"'{theirs}' is '{ours}' here")]
    return {**meta, "hook_name": ours}, notes
