"""Gemma Scope 2, for Gemma 3: `config.json` and `params.safetensors` (Google DeepMind 2025).

    latents = a where a > threshold, a = x @ w_enc + b_enc
    x_hat = latents @ w_dec + b_dec (+ x @ affine_skip_connection)

b_dec is not taken off the input. Hooks are named by modules of the Hugging Face model:
`model.layers.10.output`, `model.layers.10.self_attn.o_proj.input`. The skip connection is (d_in,
d_out), ours is its transpose; SAELens 6.54 takes it as it is, which is another map.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import save_file

from saetools.errors import FormatError
from saetools.formats.base import FORMATS, Foreign, Format, Note, need
from saetools.formats.hooks import hook_meta, model_name
from saetools.formats.plain import Plain, plain_of
from saetools.formats.safety import read_json, read_safetensors, safetensors_shapes
from saetools.formats.settings import number, text
from saetools.models.hook_names import canonical, layer_of, parse
from saetools.sae import SAE

__all__ = ["GemmaScope2"]

_CONFIG, _WEIGHTS = "config.json", "params.safetensors"
_NAMES = ("w_enc", "b_enc", "w_dec", "b_dec", "threshold")
_SKIP = "affine_skip_connection"
_Z = re.compile(r"model\.layers\.(?P<layer>\d+)\.self_attn\.o_proj\.input")
_MLP_OUT = re.compile(r"model\.layers\.(?P<layer>\d+)\.post_feedforward_layernorm\.output")


@FORMATS.register("gemma_scope_2")
class GemmaScope2(Format):
    """A folder of Gemma Scope 2: an SAE or a transcoder of one layer."""

    title = "Gemma Scope 2 folder"
    files = f"`{_CONFIG}`, `{_WEIGHTS}`"
    holds: ClassVar[Mapping[str, str]] = {
        "jumprelu": "JumpReLU",
        "batch_topk": "JumpReLU with one threshold",
        "matryoshka": "JumpReLU with one threshold; not by token",
        "standard": "JumpReLU with thresholds of zero",
        "transcoder": "JumpReLU transcoder, with skip an affine connection; not by token",
    }
    keeps = ("reconstruction", "latents", "hooks", "model name", "L0")
    loses = ("k of BatchTopK", "widths of Matryoshka", "settings of training")

    def detect(self, path: Path) -> bool:
        """By the names of the files and of the tensors."""
        if not (path / _WEIGHTS).is_file():
            return False
        return {"w_enc", "w_dec", "threshold"} <= set(safetensors_shapes(path / _WEIGHTS))

    def read(self, path: Path) -> Foreign:
        """Read a folder; config.json may be missing, as it is for some releases."""
        shapes = safetensors_shapes(path / _WEIGHTS)
        if len(shapes.get("w_dec", ())) == 3:
            raise FormatError(
                f"{path / _WEIGHTS} is one layer of a cross-layer transcoder: a latent writes to "
                f"{shapes['w_dec'][1]} layers, one of ours to one; summing them would give other "
                "reconstructions. Use circuit-tracer for it"
            )
        config = read_json(path / _CONFIG) if (path / _CONFIG).is_file() else {}
        if config.get("architecture", "jump_relu") != "jump_relu":
            raise FormatError(
                f"{path / _CONFIG} says architecture {config['architecture']!r}; Gemma Scope 2 has "
                "'jump_relu'. Are these files of another tool?"
            )
        held = read_safetensors(path / _WEIGHTS)
        need(held, _NAMES, where=path / _WEIGHTS)
        where = path / _CONFIG
        read = text(config, "hf_hook_point_in", where=where)
        written = text(config, "hf_hook_point_out", where=where)
        meta, notes = hook_meta(_ours(read), model=text(config, "model_name", where=where))
        if read and _ours(read) != read:
            notes.append(Note("hook_name", f"'{read}' is '{_ours(read)}' here"))
        if _SKIP in held:
            notes.append(Note("W_skip", "(d_in, d_out) there, its transpose here"))
        plain = Plain(
            held["w_enc"], held["b_enc"], held["w_dec"], held["b_dec"],
            rule="jump", threshold=held["threshold"],
            W_skip=held[_SKIP].T if _SKIP in held else None,
            transcodes=_SKIP in held or written not in (None, read),
        )  # fmt: skip
        l0 = number(config, "l0", where=where)
        return plain.foreign(
            meta=meta | ({} if l0 is None else {"l0": l0}), notes=tuple(notes),
            l0=l0, target_hook_name=_ours(written) if plain.transcodes else None,
        )  # fmt: skip

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write a folder, float32."""
        plain, notes = plain_of(sae, title=self.title, rules=("jump",), skip=True)
        assert plain.threshold is not None, "plain_of gives the rule jump its thresholds"
        tensors = {
            "w_enc": plain.W_enc, "b_enc": plain.b_enc, "w_dec": plain.W_dec, "b_dec": plain.b_dec,
            "threshold": plain.threshold,
        }  # fmt: skip
        if plain.W_skip is not None:
            tensors[_SKIP] = plain.W_skip.T
            notes.append(Note("W_skip", "written as its transpose, (d_in, d_out)"))
        read = sae.meta.get("hook_name")
        written = sae.target_hook_name if plain.transcodes else read
        config: dict[str, Any] = {
            "architecture": "jump_relu",
            "model_name": model_name(sae),
            "hf_hook_point_in": _theirs(read),
            "hf_hook_point_out": _theirs(written),
            "affine_connection": plain.W_skip is not None,
            "width": sae.config.n_latents,
            "l0": sae.meta.get("l0", sae.calibrated_l0 or sae.target_l0),
        }
        path.mkdir(parents=True)
        save_file({k: v.float().contiguous() for k, v in tensors.items()}, path / _WEIGHTS)
        (path / _CONFIG).write_text(json.dumps(config, indent=2, default=str) + "\n", "utf-8")
        return tuple(notes)


def _ours(theirs: str | None) -> str | None:
    """The hook that an input or output of a module of Gemma 3 is; other names as they are."""
    if theirs is None:
        return None
    for pattern, hook in ((_Z, "attn.hook_z"), (_MLP_OUT, "hook_mlp_out")):
        match = pattern.fullmatch(theirs)
        if match:
            return f"blocks.{match['layer']}.{hook}"
    site = parse(theirs.removesuffix(".output"))
    return theirs if site is None else canonical(site)


def _theirs(ours: str | None) -> str | None:
    if ours is None:
        return None
    site, layer = parse(ours), layer_of(ours)
    if ours.endswith("attn.hook_z"):
        return f"model.layers.{layer}.self_attn.o_proj.input"
    if site is not None and site.kind == "mlp_out":
        return f"model.layers.{layer}.post_feedforward_layernorm.output"
    return f"model.layers.{layer}.output" if site and site.kind == "resid_post" else ours
