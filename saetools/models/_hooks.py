"""Reading and editing activations with plain forward hooks.

`read` runs a forward pass only as far as the last site asked for. `install` puts edits on sites
until its stack closes. Both leave the modules as they were, whatever is raised in between.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn

from saetools.errors import ShapeError
from saetools.models.base import Edit
from saetools.models.pass_watcher import PassWatcher
from saetools.models.sites import Site

__all__ = ["Stop", "apply_edit", "install", "read"]


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


def install(
    edits: Sequence[tuple[str, Site, Edit]], watcher: PassWatcher, stack: ExitStack
) -> None:
    """Put edits on their sites, in order, until the stack closes."""
    for hook_name, site, edit in edits:

        def change(x: Tensor, edit: Edit = edit, hook_name: str = hook_name) -> Tensor:
            return apply_edit(edit, x, watcher.for_activation(x), hook_name=hook_name)

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
