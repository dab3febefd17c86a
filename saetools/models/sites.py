"""Where the plain sites sit in a Hugging Face module tree.

Residual sites are the inputs and outputs of the blocks, which any model has. The outputs of
attention and MLP are offered only for families listed here, because each family wires its
sublayers in its own way and a wrong tensor is worse than none.

`hook_attn_out` and `hook_mlp_out` are what a sublayer adds to the residual stream: before the
addition, and after a post-norm where there is one (Gemma 2). This is transformer_lens' definition.
For BERT the bridge of transformer_lens 4.3 departs from its own definition and puts
`hook_attn_out` after addition and LayerNorm; here the name keeps its meaning, and the bridge's
`attn.o.hook_out` is the same tensor.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from saetools.errors import FormatError
from saetools.models.hook_names import HookSite, canonical

__all__ = ["Site", "blocks_of", "bridge_name", "model_type", "output_paths", "sites_of"]


@dataclass(frozen=True)
class Site:
    """One readable and editable place: the input or the output of a module."""

    module: nn.Module
    side: Literal["input", "output"]


# Paths, inside a block, of the modules whose outputs are added to the residual stream.
_LLAMA = {"attn_out": "self_attn", "mlp_out": "mlp"}
_POST_NORM = {
    "attn_out": "post_attention_layernorm",
    "mlp_out": "post_feedforward_layernorm",
}
_GPT2 = {"attn_out": "attn", "mlp_out": "mlp"}
_BERT = {"attn_out": "attention.output.dense", "mlp_out": "output.dense"}

_SUBLAYERS: dict[str, dict[str, str]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "phi3": _LLAMA,
    "gemma2": _POST_NORM,
    "gemma3_text": _POST_NORM,
    "olmo2": _POST_NORM,
    "gpt2": _GPT2,
    "gpt_neo": _GPT2,
    "gpt_neox": {"attn_out": "attention", "mlp_out": "mlp"},
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "distilbert": {"attn_out": "attention", "mlp_out": "ffn"},
    "mpnet": {"attn_out": "attention.attn", "mlp_out": "output.dense"},
    "modernbert": {"attn_out": "attn", "mlp_out": "mlp"},
    "clip": _LLAMA,
    "clip_text_model": _LLAMA,
    "t5": {"attn_out": "layer.0.SelfAttention", "mlp_out": "layer.1.DenseReluDense"},
}


def model_type(hf: nn.Module) -> str:
    """Return the family name that Hugging Face gives the model, e.g. "gpt2"."""
    return str(getattr(hf.config, "model_type", ""))


def blocks_of(hf: nn.Module, n_layers: int) -> list[nn.Module]:
    """Return the model's blocks: its one outermost module list of `n_layers` members.

    Raises:
        FormatError: there is none, or more than one.
    """
    lists = list(_outermost_lists(hf))
    fitting = [members for _, members in lists if len(members) == n_layers]
    if len(fitting) != 1:
        found = ", ".join(f"{path} ({len(members)})" for path, members in lists) or "none"
        raise FormatError(
            f"looked in {type(hf).__name__} for the one list of its {n_layers} blocks; module "
            f"lists found: {found}. Pass the text part of the model on its own"
        )
    return list(fitting[0])


def sites_of(hf: nn.Module, n_layers: int) -> dict[str, Site]:
    """Return the plain sites of a model by canonical name, in the order of computation."""
    paths = _SUBLAYERS.get(model_type(hf), {})
    sites: dict[str, Site] = {}
    for layer, block in enumerate(blocks_of(hf, n_layers)):
        sites[canonical(HookSite("resid_pre", layer))] = Site(block, "input")
        if "attn_out" in paths:
            module = _submodule(block, paths["attn_out"])
            sites[canonical(HookSite("attn_out", layer))] = Site(module, "output")
        if "mlp_out" in paths:
            module = _submodule(block, paths["mlp_out"])
            sites[canonical(HookSite("mlp_out", layer))] = Site(module, "output")
        sites[canonical(HookSite("resid_post", layer))] = Site(block, "output")
    return sites


def output_paths(hf: nn.Module, sites: Mapping[str, Site]) -> dict[str, str]:
    """Path in the module tree, by site, of the module whose output the site is."""
    paths = {id(module): path for path, module in hf.named_modules()}
    return {
        # What transformer_lens has wrapped is called as it was before.
        name: paths[id(site.module)].replace("._original_component", "")
        for name, site in sites.items()
        if site.side == "output"
    }


def bridge_name(name: str, family: str) -> str:
    """Return what TransformerBridge calls the tensor of a plain site."""
    if _SUBLAYERS.get(family) is _BERT and name.endswith(".hook_attn_out"):
        return name.removesuffix("hook_attn_out") + "attn.o.hook_out"
    return name


def _outermost_lists(module: nn.Module, path: str = "") -> Iterable[tuple[str, nn.ModuleList]]:
    for name, child in module.named_children():
        here = f"{path}{name}"
        if isinstance(child, nn.ModuleList):
            # Lists inside a block (experts, T5's sublayers) are not searched.
            yield here, child
        else:
            yield from _outermost_lists(child, f"{here}.")


def _submodule(block: nn.Module, path: str) -> nn.Module:
    module: Any = block
    for part in path.split("."):
        # A module that transformer_lens has wrapped keeps the original under this name.
        module = getattr(module, "_original_component", module)
        module = module[int(part)] if part.isdigit() else getattr(module, part)
    found: nn.Module = module
    return found
