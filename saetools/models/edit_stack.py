"""The edits that are open on one model, outermost first, and the hooks that carry them out.

The stack decides where edits live. While all of them are at plain sites they are plain hooks on
the Hugging Face model. As soon as one needs the bridge, all move to the bridge's copy, and the
plain model refuses to run, because it would run unedited.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NoReturn

from torch import Tensor, nn

from saetools.errors import ConfigError
from saetools.models._hooks import apply_edit, install
from saetools.models.base import Edit
from saetools.models.bridge import Bridge, HookFn
from saetools.models.forward_pass import ForwardPass
from saetools.models.pass_watcher import PassWatcher
from saetools.models.sites import Site, bridge_name, model_type

__all__ = ["EditStack", "NamedEdit"]

NamedEdit = tuple[str, Edit]
"""A canonical hook name and what is done there."""


class EditStack:
    """Open edits of one model.

    Args:
        hf: the Hugging Face model.
        sites: its plain sites.
        specials: token ids that are never content.
    """

    def __init__(self, hf: nn.Module, sites: Mapping[str, Site], specials: Sequence[int]) -> None:
        self._hf = hf
        self._sites = sites
        self._specials = specials
        self._blocks: list[Sequence[NamedEdit]] = []
        self._installed = ExitStack()
        self._bridge: Bridge | None = None
        self._watcher: PassWatcher | None = None

    def running(self, x: Tensor) -> ForwardPass:
        """What is known of the forward pass that an edit's activation `x` belongs to.

        Raises:
            ConfigError: no edit is open, so no pass is followed.
        """
        if self._watcher is None:
            raise ConfigError(
                "asked what the running forward pass is while no edit is open; ask from inside an "
                "edit, within `with model.editing(...)`"
            )
        return self._watcher.running(x)

    @property
    def bridge(self) -> Bridge | None:
        """The bridge that carries the edits; None while they are on the plain model."""
        return self._bridge

    @property
    def root(self) -> nn.Module:
        """The module that carries the edits, which is the one to call."""
        return self._hf if self._bridge is None else self._bridge.root

    @contextmanager
    def open(self, edits: Sequence[NamedEdit], bridge: Bridge | None) -> Iterator[None]:
        """Add edits for the length of a block; `bridge` is needed if any is not at a plain site."""
        before = self._bridge
        self._bridge = before or bridge
        self._blocks.append(edits)
        try:
            self._install()
            yield
        finally:
            self._blocks.pop()
            self._bridge = before
            self._install()

    def moved_to(self, bridge: Bridge) -> AbstractContextManager[None]:
        """Let the bridge carry all edits for the length of a block."""
        return self.open((), bridge)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Take all hooks off for the length of a block, e.g. to copy the model."""
        self._installed.close()
        try:
            yield
        finally:
            self._install()

    def _install(self) -> None:
        self._installed.close()
        self._watcher = None
        edits = [edit for block in self._blocks for edit in block]
        if not edits:
            return
        watcher = self._watcher = PassWatcher(self._specials)
        # On failure the stack closes what it has put up so far.
        with ExitStack() as stack:
            if self._bridge is not None:
                self._install_on_bridge(self._bridge, edits, watcher, stack)
            else:
                watcher.watch(self._hf, stack)
                install([(n, self._sites[n], edit) for n, edit in edits], watcher, stack)
            self._installed = stack.pop_all()

    def _install_on_bridge(
        self, bridge: Bridge, edits: Sequence[NamedEdit], watcher: PassWatcher, stack: ExitStack
    ) -> None:
        watcher.watch(bridge.root, stack)
        functions = []
        for name, edit in edits:
            inside = bridge_name(name, model_type(self._hf))
            functions.append((inside, _hook_function(bridge, inside, edit, watcher)))
        stack.enter_context(bridge.hooks(functions))
        names = ", ".join(sorted({name for name, _ in edits if name not in self._sites}))
        if names and bridge.root is not self._hf:
            guard = self._hf.register_forward_pre_hook(lambda *_: _refuse(names))
            stack.callback(guard.remove)


def _hook_function(bridge: Bridge, name: str, edit: Edit, watcher: PassWatcher) -> HookFn:
    layout = bridge.layouts[name]

    def change(x: Tensor, *, hook: object) -> Tensor | None:  # noqa: ARG001 (transformer_lens passes it)
        rows = layout.to_rows(x)
        new = apply_edit(edit, rows, watcher.for_activation(rows), hook_name=name)
        return None if new is rows else layout.from_rows(new, like=x)

    return change


def _refuse(names: str) -> NoReturn:
    raise ConfigError(
        f"the Hugging Face module was called while an edit at {names} is open; that edit lives in "
        "transformer_lens' copy of the model and would be missed. Call the methods of the subject "
        "model (logits, loss, generate, embed), or edit a plain site such as the residual stream"
    )
