"""Where an edit of weights takes hold: the linear map that writes a site, and what flows there.

`writer` finds the last linear map before `mlp_out` or `attn_out`. Where a norm stands between the
two (Gemma 2 and kin) there is none, and it says so: a change of the map is not the same change of
the site.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saetools.errors import ConfigError
from saetools.models.base import SubjectModel
from saetools.models.sites import Site, blocks_of, sites_of

__all__ = [
    "block_weights",
    "name_of",
    "plain_sites",
    "read_rows",
    "watching",
    "write_rows",
    "writer",
]

# What families call the last linear map of a sublayer.
_LAST = {
    "mlp_out": ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "wo", "Wo", "lin2"),
    "attn_out": ("o_proj", "out_proj", "c_proj", "dense", "out_lin", "o", "Wo"),
}


def plain_sites(model: SubjectModel, hook_names: Sequence[str]) -> dict[str, Site]:
    """The sites of hooks, by the names as asked.

    Raises:
        HookNotFoundError: the model lacks one.
        ConfigError: one is served by transformer_lens only, where no gradient flows.
    """
    sites = sites_of(model.hf, model.n_layers)
    found = {}
    for asked in hook_names:
        name = model.resolve(asked)
        if name not in sites:
            raise ConfigError(
                f"asked to unlearn at {asked}, which only transformer_lens serves; weights can be "
                "edited through resid_post, mlp_out and attn_out"
            )
        found[asked] = sites[name]
    return found


@contextmanager
def watching(sites: Mapping[str, Site]) -> Iterator[dict[str, Tensor]]:
    """Within the block every forward pass leaves the activations at the sites, gradients and all.

    Yields a dict by the names of the sites, rewritten by each pass.
    """
    seen: dict[str, Tensor] = {}
    handles = []
    for name, site in sites.items():

        def output(_module: nn.Module, _args: Any, out: Any, *, name: str = name) -> None:
            seen[name] = out[0] if isinstance(out, tuple) else out

        def inward(_module: nn.Module, args: Any, kwargs: Any, *, name: str = name) -> None:
            seen[name] = args[0] if args else kwargs["hidden_states"]

        if site.side == "output":
            handles.append(site.module.register_forward_hook(output))
        else:
            handles.append(site.module.register_forward_pre_hook(inward, with_kwargs=True))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def writer(model: SubjectModel, hook_name: str) -> nn.Module:
    """The linear map whose output is the activation at `mlp_out.<layer>` or `attn_out.<layer>`.

    Raises:
        ConfigError: another kind of site, or a norm stands between the map and the site.
    """
    site = plain_sites(model, [hook_name])[hook_name]
    kind = next((kind for kind in _LAST if kind in model.resolve(hook_name)), None)
    if kind is None:
        raise ConfigError(
            f"{hook_name} is written by no single linear map: the residual stream is a sum of all "
            "that was written before; name mlp_out.<layer> or attn_out.<layer>"
        )
    if _is_linear(site.module):
        return site.module
    for name in _LAST[kind]:
        inner = getattr(site.module, name, None)
        if inner is not None and _is_linear(inner):
            found: nn.Module = inner
            return found
    raise ConfigError(
        f"{hook_name} of {model.name} comes out of a {type(site.module).__name__}, not out of a "
        "linear map whose weights could be edited instead (in families with a norm after the "
        "sublayer the two differ); use a method that trains, such as crisp or npo"
    )


def read_rows(linear: nn.Module) -> Float[Tensor, "d_hidden d_out"]:
    """What each hidden unit writes, one row each, as a float32 copy."""
    held: Any = linear.weight
    weight: Tensor = held.detach()
    return (weight.T if isinstance(linear, nn.Linear) else weight).float().clone()


@torch.no_grad()
def write_rows(
    linear: nn.Module,
    rows: Float[Tensor, "d_hidden d_out"],
    *,
    only: Tensor | None = None,
) -> None:
    """Put rows back, in the dtype of the weights; with `only`, just the rows named there."""
    weight: Tensor = linear.weight  # type: ignore[assignment]
    target = weight.T if isinstance(linear, nn.Linear) else weight
    rows = rows.to(weight.device, weight.dtype)
    if only is None:
        target.copy_(rows)
    else:
        target[only] = rows[only]


def name_of(model: SubjectModel, module: nn.Module) -> str:
    """Path of a module in the model."""
    found: str = next(name for name, one in model.hf.named_modules() if one is module)
    return found


def block_weights(
    model: SubjectModel, layers: Sequence[int] | None, *, only: Sequence[str] = ()
) -> dict[str, nn.Parameter]:
    """Weights inside blocks by name; `layers` None is all weights of the model.

    Args:
        only: keep the names that contain one of these.

    Raises:
        ConfigError: no such layer.
    """
    named = dict(model.hf.named_parameters())
    if layers is not None:
        outside = [layer for layer in layers if not 0 <= layer < model.n_layers]
        if outside:
            raise ConfigError(
                f"layer {outside[0]} asked for; {model.name} has layers 0 to {model.n_layers - 1}"
            )
        blocks = blocks_of(model.hf, model.n_layers)
        inside = {id(p) for layer in layers for p in blocks[layer].parameters()}
        named = {name: p for name, p in named.items() if id(p) in inside}
    return {n: p for n, p in named.items() if not only or any(part in n for part in only)}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
