"""The spelling of hook names: what a user may write, and the one name each of them stands for.

Canonical names are those of transformer_lens, `blocks.3.hook_resid_post`. Short forms
(`resid_post.3`), the bridge's aliases (`blocks.3.hook_out`) and module paths of blocks
(`model.layers.3`) are understood too. Nothing here looks at a model; see `sites` for where a hook
sits in one.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from saetools.errors import HookNotFoundError, nearest

__all__ = ["HookSite", "SiteKind", "aliases", "canonical", "layer_of", "not_found", "parse"]

SiteKind = Literal["resid_pre", "attn_out", "mlp_out", "resid_post"]
"""Sites that plain forward hooks reach, in the order in which a block computes them."""

_KINDS: tuple[SiteKind, ...] = get_args(SiteKind)

# transformer_lens 4 names a block's input and output a second time.
_ALIASES: dict[str, SiteKind] = {"in": "resid_pre", "out": "resid_post"}

_FULL = re.compile(r"blocks\.(?P<layer>\d+)\.(?:hook_)?(?P<kind>\w+)")
_SHORT = re.compile(r"(?:hook_)?(?P<kind>\w+)\.(?P<layer>\d+)")
_MODULE_PATH = re.compile(r"(?:\w+\.)*(?:layers?|h|block)\.(?P<layer>\d+)")
_ANY_BLOCK = re.compile(r"blocks\.(?P<layer>\d+)\.")


class HookSite(NamedTuple):
    """A plain site: which activation, in which block."""

    kind: SiteKind
    layer: int


def parse(hook_name: str) -> HookSite | None:
    """Return the plain site that a name stands for, or None if it is no spelling of one.

    Whether a model has that layer is not checked here.
    """
    path = _MODULE_PATH.fullmatch(hook_name)
    if path:
        return HookSite("resid_post", int(path["layer"]))
    match = _FULL.fullmatch(hook_name) or _SHORT.fullmatch(hook_name)
    if match is None:
        return None
    kind = _ALIASES.get(match["kind"], match["kind"])
    for known in _KINDS:
        if kind == known:
            return HookSite(known, int(match["layer"]))
    return None


def canonical(site: HookSite) -> str:
    """Return the transformer_lens name of a plain site."""
    return f"blocks.{site.layer}.hook_{site.kind}"


def aliases(site: HookSite, module_path: str | None = None) -> list[str]:
    """Return all spellings of a plain site, the canonical one first.

    Args:
        site: the site.
        module_path: where in the Hugging Face model the module sits whose output it is, e.g.
            `model.layers.3`; None where it is no module's output.
    """
    second = [f"blocks.{site.layer}.hook_{a}" for a, kind in _ALIASES.items() if kind == site.kind]
    path = [] if module_path is None else [module_path]
    return [canonical(site), *second, f"{site.kind}.{site.layer}", *path]


def layer_of(hook_name: str) -> int | None:
    """Return the layer in a name, plain or not; None for names outside the blocks."""
    site = parse(hook_name)
    if site is not None:
        return site.layer
    match = _ANY_BLOCK.match(hook_name)
    return int(match["layer"]) if match else None


def not_found(
    hook_name: str, *, model: str, n_layers: int, known: Sequence[str], why: str = ""
) -> HookNotFoundError:
    """Build the error for a hook that a model lacks.

    Args:
        hook_name: as the user wrote it.
        model: what the model is called.
        n_layers: how many blocks it has.
        known: the canonical names that exist.
        why: one more sentence of explanation, e.g. why transformer_lens could not help.
    """
    layer = layer_of(hook_name)
    if layer is not None and layer >= n_layers:
        found = (
            f"'{model}' has {n_layers} layers, 0 to {n_layers - 1}, so there is no layer {layer}"
        )
    else:
        found = f"'{model}' has no such hook"
    near = ", ".join(_nearest(hook_name, known))
    tail = f" {why}" if why else ""
    return HookNotFoundError(f"asked for hook '{hook_name}', but {found}. Nearest: {near}.{tail}")


def _nearest(hook_name: str, known: Iterable[str]) -> list[str]:
    # A short form is compared with short forms, or the common "blocks." would drown the spelling.
    if hook_name.startswith("blocks."):
        return nearest(hook_name, known)
    spelled = {_short(name): name for name in known}
    return [spelled[name] for name in nearest(hook_name, spelled)]


def _short(name: str) -> str:
    site = parse(name)
    return name if site is None else f"{site.kind}.{site.layer}"
