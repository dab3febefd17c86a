"""Gemma Scope: `params.npz` and no config (Lieberum et al. 2024, arXiv:2408.05147).

    latents = a where a > threshold, a = x @ W_enc + b_enc      x_hat = latents @ W_dec + b_dec

b_dec is not taken off the input. What the SAE is for is in the path alone, as in the repositories
google/gemma-scope-2b-pt-res: `layer_5/width_16k/average_l0_68/params.npz`. SAEs of the embedding
were trained on rows of the embedding matrix, which the model multiplies by √d_in before any hook
sees them; the factor is folded in, into b_dec as well.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats.base import FORMATS, Foreign, Format, Note, need
from saetools.formats.hooks import hook_meta
from saetools.formats.plain import Plain, described, plain_of
from saetools.formats.safety import npz_shapes, read_npz
from saetools.sae import SAE

__all__ = ["GemmaScope"]

_FILE = "params.npz"
_NAMES = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
_REPOSITORY = re.compile(r"gemma-scope-(?P<model>\w+?-(?:pt|it))-(?P<site>res|mlp|att|transcoders)")
_LAYER = re.compile(r"layer_(?P<layer>\d+)(?:/|$)")
_L0 = re.compile(r"average_l0_(?P<l0>\d+)")
_SITES = {
    "res": "blocks.{layer}.hook_resid_post",
    "mlp": "blocks.{layer}.hook_mlp_out",
    "att": "blocks.{layer}.attn.hook_z",
    "transcoders": "blocks.{layer}.ln2.hook_normalized",
}


@FORMATS.register("gemma_scope")
class GemmaScope(Format):
    """A `params.npz`, or the folder that it lies in."""

    title = "Gemma Scope npz"
    files = f"`{_FILE}`"
    holds: ClassVar[Mapping[str, str]] = {
        "jumprelu": "JumpReLU",
        "batch_topk": "JumpReLU with one threshold",
        "matryoshka": "JumpReLU with one threshold; not by token",
        "standard": "JumpReLU with thresholds of zero",
        "transcoder": "JumpReLU transcoder; not by token, not with skip",
    }
    keeps = ("reconstruction", "latents")
    loses = (
        "everything that is no weight: hook, model and layer stand in the path alone",
        "k of BatchTopK",
        "widths of Matryoshka",
    )

    def detect(self, path: Path) -> bool:
        """By the name of the file and of the arrays in it."""
        file = _file(path)
        if file.suffix != ".npz" or not file.is_file():
            return False
        return {"W_enc", "W_dec", "threshold"} <= set(npz_shapes(file))

    def read(self, path: Path) -> Foreign:
        """Read a file or folder."""
        held = read_npz(_file(path))
        need(held, _NAMES, where=_file(path))
        _check_factor(path, held)
        place, hook, target = _place(described(path))
        meta, notes = hook_meta(hook, model=place.get("model"))
        d_in, d_out = held["W_enc"].shape[0], held["W_dec"].shape[-1]
        scale = 1 / d_in**0.5 if hook == "hook_embed" else 1.0
        plain = Plain(
            held["W_enc"], held["b_enc"], held["W_dec"], held["b_dec"],
            rule="jump", threshold=held["threshold"], scale_in=scale, scale_out=scale,
            transcodes=target is not None or d_in != d_out,
        )  # fmt: skip
        l0 = place.get("l0")
        return plain.foreign(
            meta=meta | ({} if l0 is None else {"l0": l0}),
            notes=tuple(notes), l0=l0, target_hook_name=target,
        )  # fmt: skip

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write a folder with the file, float32."""
        plain, notes = plain_of(sae, title=self.title, rules=("jump",), skip=False)
        path.mkdir(parents=True)
        np.savez(
            path / _FILE,
            **{name: getattr(plain, name).float().contiguous().numpy() for name in _NAMES},
        )
        hook = sae.meta.get("hook_name")
        return (*notes, Note("lost", f"hook_name {hook!r}: write it into the folder's name"))


def _file(path: Path) -> Path:
    return path / _FILE if path.is_dir() else path


def _check_factor(path: Path, held: Mapping[str, Tensor]) -> None:
    factor = held.get("scaling_factor", torch.ones(()))
    if not torch.allclose(factor.float(), torch.ones(())):
        raise FormatError(
            f"{_file(path)} has a scaling_factor between {float(factor.min()):g} and "
            f"{float(factor.max()):g}; what it multiplies is written nowhere, so the file was not "
            "converted"
        )


def _place(where: str) -> tuple[dict[str, Any], str | None, str | None]:
    """What the path says: model and L0, the hook that is read, and that which is written."""
    found: dict[str, Any] = {}
    repository, layer, l0 = (pattern.search(where) for pattern in (_REPOSITORY, _LAYER, _L0))
    if repository:
        # The models' own names: gemma-2-2b, and gemma-2-2b-it where it was tuned.
        found["model"] = "google/gemma-2-" + repository["model"].removesuffix("-pt")
    if l0:
        found["l0"] = float(l0["l0"])
    if "/embedding" in where:
        return found, "hook_embed", None
    if repository is None or layer is None:
        return found, None, None
    hook = _SITES[repository["site"]].format(layer=layer["layer"])
    writes = repository["site"] == "transcoders"
    return found, hook, f"blocks.{layer['layer']}.hook_mlp_out" if writes else None
