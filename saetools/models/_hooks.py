"""Reading and editing activations with plain forward hooks.

`read` runs a forward pass only as far as the last site asked for. `install` puts edits on sites
until its stack closes. Both leave the modules as they were, whatever is raised in between.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from saetools.errors import ShapeError
from saetools.models.base import Edit
from saetools.models.sites import Site
from saetools.models.tokens import is_special

__all__ = ["ContentMask", "Stop", "apply_edit", "install", "read"]


class Stop(Exception):  # noqa: N818 (it is not an error: it ends a forward pass that has done its duty)
    """Raised by a reading hook when nothing more is needed of the forward pass."""


def read(sites: Mapping[str, Site], forward: Callable[[], object]) -> dict[str, Tensor]:
    """Run `forward` until every site has been seen; return what was seen, without gradients.

    Edits that are open at a site happen before the reading.
    """
    seen: dict[str, Tensor] = {}

    with ExitStack() as stack:
        for name, site in sites.items():

            def catch(value: Tensor, name: str = name) -> None:
                seen[name] = value.detach()
                if len(seen) == len(sites):
                    raise Stop

            stack.callback(_register(site, catch).remove)
        with suppress(Stop):
            forward()
    return seen


class ContentMask:
    """Which positions of the forward pass now running are content: no padding, no special token.

    Read off the arguments of the model's own forward call, so it is right in generation too, where
    a cached step sees one new token a row and the attention mask of the whole past.
    """

    def __init__(self, specials: Sequence[int]) -> None:
        self._specials = specials
        self._value: Tensor | None = None

    def watch(self, root: nn.Module, stack: ExitStack) -> None:
        """Follow the calls of `root` until the stack closes."""
        inner = getattr(root, "base_model", root)
        stack.callback(root.register_forward_pre_hook(self._see_call, with_kwargs=True).remove)
        if inner is not root:
            # For whoever calls the inner model, past the head.
            stack.callback(inner.register_forward_pre_hook(self._see, with_kwargs=True).remove)

    def for_activation(self, x: Tensor) -> Bool[Tensor, "batch pos"]:
        """Return the mask of the current call; all True where its token ids are not known."""
        if self._value is None or self._value.shape != x.shape[:2]:
            return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return self._value.to(x.device)

    def _see_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._value = None
        self._see(module, args, kwargs)

    def _see(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids: Any = kwargs.get("input_ids", args[0] if args else None)
        attention: Any = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        known = isinstance(ids, Tensor) and not ids.is_floating_point()
        flat = isinstance(attention, Tensor) and attention.ndim == 2
        # What the outer call has shown is better than embeddings or an expanded mask.
        if not known or (self._value is not None and not flat):
            return
        content = ~is_special(ids, self._specials)
        self._value = content & attention[:, -ids.shape[1] :].bool() if flat else content


def apply_edit(edit: Edit, x: Tensor, mask: Tensor, *, hook_name: str) -> Tensor:
    """Return the edited activation, in the dtype of `x`; `x` itself if the edit returned it.

    Raises:
        ShapeError: the edit returned another shape.
    """
    new = edit(x, mask)
    if new.shape != x.shape:
        raise ShapeError(
            f"an edit at '{hook_name}' must return the shape it got, {tuple(x.shape)}; it returned "
            f"{tuple(new.shape)}"
        )
    return new.to(x.dtype)


def install(edits: Sequence[tuple[str, Site, Edit]], mask: ContentMask, stack: ExitStack) -> None:
    """Put edits on their sites, in order, until the stack closes."""
    for hook_name, site, edit in edits:

        def change(x: Tensor, edit: Edit = edit, hook_name: str = hook_name) -> Tensor:
            return apply_edit(edit, x, mask.for_activation(x), hook_name=hook_name)

        handle = _register(site, change)
        stack.callback(handle.remove)


def _register(
    site: Site, act: Callable[[Tensor], Tensor | None]
) -> torch.utils.hooks.RemovableHandle:
    """Call `act` on the activation at a site; what it returns, if anything, replaces it."""
    if site.side == "output":
        return site.module.register_forward_hook(lambda _m, _args, out: _with_first(out, act))

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return _with_first(args, act) or args, kwargs
        x = kwargs["hidden_states"]
        new = act(x)
        return args, kwargs if new is None else {**kwargs, "hidden_states": new}

    return site.module.register_forward_pre_hook(before, with_kwargs=True)


def _with_first(value: Any, act: Callable[[Tensor], Tensor | None]) -> Any:
    """Replace a tensor, or the first tensor of a tuple; None (no change) if nothing changed."""
    x: Tensor = value[0] if isinstance(value, tuple) else value
    new = act(x)
    if new is None or new is x:
        return None
    return (new, *value[1:]) if isinstance(value, tuple) else new
